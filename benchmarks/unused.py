"""
Print the milliseconds that a suite without devices pays: the import of the plugin, and the time in its hooks, summed.

Started by the command, in the folder of the suite.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

import pytest

spent = 0.0


def timed(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return the hook, with its time added to `spent`; what others do while a wrapper waits is theirs."""

    @wraps(hook)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return hook(*args, **kwargs)
        finally:
            _spend(start)

    @wraps(hook)
    def wrap(*args: Any, **kwargs: Any) -> Generator[None, Any, Any]:
        steps, answer, start = hook(*args, **kwargs), None, time.perf_counter()
        next(steps)
        _spend(start)
        answer = yield
        start = time.perf_counter()
        try:
            steps.send(answer)
        except StopIteration as stop:
            return stop.value
        finally:
            _spend(start)

    return wrap if getattr(hook, "pytest_impl", {}).get("wrapper") else call


def _spend(start: float) -> None:
    global spent  # noqa: PLW0603  (the one figure of this process)
    spent += time.perf_counter() - start


def main() -> None:
    """Import, wrap, run."""
    gc.collect()  # else a collection of what pytest left is charged to us or not, by chance; those we cause still are
    start = time.perf_counter()
    from pytest_jumpstarter import plugin

    _spend(start)
    for owner in (plugin, plugin._RecordedReports):
        for name, hook in list(vars(owner).items()):
            if name.startswith("pytest_") and callable(hook):
                setattr(owner, name, timed(hook))
    code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[plugin])
    print("SPENT", spent * 1000)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""The lab that the weather tests share, and the plugin code that runs these tests at the same time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from .shared_lab import SharedLab, serve_lab

AT_ONCE = 10
"""The number of tests that run at the same time: they mostly wait."""

LONGEST = 600.0
"""Seconds for one test, including its wait for boards."""

_POOL: pytest.StashKey[ThreadPoolExecutor] = pytest.StashKey()
_OUTCOME: pytest.StashKey[Future[None]] = pytest.StashKey()


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLab]:
    """Serve a lab with many boards; the tests that use it run at the same time, in threads."""
    with serve_lab(partial(tmp_path_factory.mktemp, "suite"), plain=12, hooked=3) as shared_lab:
        yield shared_lab


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """At the first test of a module that uses `shared_lab`, start all of its tests; wait for the end of this one."""
    if not isinstance(shared_lab := pyfuncitem.funcargs.get("shared_lab"), SharedLab):
        return None
    if _OUTCOME not in pyfuncitem.stash:
        _start_module(pyfuncitem, shared_lab)
    pyfuncitem.stash[_OUTCOME].result(timeout=LONGEST)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Wait for tests that pytest does not call any more, for example after `-x`."""
    for item in session.items:
        if (outcome := item.stash.get(_OUTCOME, None)) is not None:
            outcome.cancel()
    if (pool := session.stash.get(_POOL, None)) is not None:
        pool.shutdown()
    return (yield)


def _start_module(first: pytest.Function, shared_lab: SharedLab) -> None:
    """Start the tests of one module only: with pytest-xdist, another worker may run the others."""
    pool = first.session.stash.setdefault(_POOL, ThreadPoolExecutor(AT_ONCE))
    for item in first.session.items:
        if isinstance(item, pytest.Function) and item.path == first.path and "shared_lab" in item.fixturenames:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            item.stash[_OUTCOME] = pool.submit(item.obj, shared_lab=shared_lab, **params)

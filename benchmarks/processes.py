"""Processes that the benchmarks start: each side measures in one of its own, and the drivers need none of a lab."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.side import WORD


@contextmanager
def served_drivers(config: Path) -> Iterator[tuple[str, str]]:
    """Serve an exporter's drivers without a lab; yield the path of the socket, and `HOST:PORT`."""
    command = [sys.executable, "-m", "benchmarks.direct", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        socket, address = process.stdout.readline().split()
        yield socket, address
        process.stdin.close()


class MeasuringProcess:
    """
    A process that waits for orders on its standard input, and reports what it measured (`side.report`).

    Attributes:
        name: The side.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> MeasuringProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.communicate()  # ends it, for it reads to the end of input
        if self._process.returncode and kind is None:
            raise RuntimeError(f"the process of {self.name} failed")

    def figures(self, order: str = "", *, after: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Give an order, if any, then do `after`; return what comes of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if order:
            print(order, file=self._process.stdin, flush=True)
        after()
        for line in self._process.stdout:
            word, _, rest = line.partition(" ")
            if word == WORD:
                return dict(json.loads(rest))
        raise RuntimeError(f"the process of {self.name} failed")

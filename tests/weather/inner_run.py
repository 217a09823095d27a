"""Runs of an inner suite in processes of their own: start one, wait for a step, let it continue, read its output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from runs import FEW_PLUGINS, HEEDING_SIGNALS

STEP = """
import os, pathlib, time
import pytest

def step(word):
    "Tell that the test has come to `word`, and wait until it may continue; by files, because workers have no terminal."
    pathlib.Path(word).touch()
    end = time.monotonic() + 120
    while not pathlib.Path(word + ".go").exists() and time.monotonic() < end:
        time.sleep(0.02)

def is_over():
    return pathlib.Path("OVER").exists()
"""
"""The start of every inner suite."""

HIDDEN = ("JMP_", "JUMPSTARTER_", "CI", "BUILD_NUMBER", "PYTEST_")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
"""The environment without settings for labs, output and xdist; taken before fixtures and other threads change it."""

START_UP = 120.0
"""Seconds for a run to come to its first test, while many start at the same time."""


class Run:
    """
    One run of pytest, which `with` starts; at the end it is killed if it still runs.

    Attributes:
        code: Its exit code, once `end` has returned.
        seconds: The duration of the run.
    """

    def __init__(self, folder: Path, *args: str) -> None:
        self.code: int | None = None
        self.seconds = 0.0
        self._folder = folder
        self._args = args
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        command = [*HEEDING_SIGNALS, sys.executable, "-m", "pytest", "-pno:cacheprovider", *FEW_PLUGINS, "-rA"]
        command += self._args
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=_environ(self._folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def output(self) -> str:
        """Its output so far."""
        return "".join(self._lines)

    def until_said(self, words: str, *, timeout: float = START_UP) -> None:
        """Wait until its output contains `words`."""
        self.until_holds(lambda: words in self.output, f"printed {words!r}", timeout=timeout)

    def until_at(self, step: str, *, timeout: float = START_UP) -> None:
        """Wait until a test has come to a step."""
        self.until_holds((self._folder / step).exists, f"come to {step}", timeout=timeout)

    def go(self, step: str) -> None:
        """Let it continue after a step, now or when it comes there."""
        (self._folder / f"{step}.go").touch()

    def over(self) -> None:
        """End tests that run until `is_over()`."""
        (self._folder / "OVER").touch()

    def interrupt(self) -> None:
        """Send it SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def end(self, *, timeout: float = 120.0) -> Self:
        """Wait for its end."""
        self.until_holds(lambda: self._has_ended, "ended", timeout=timeout)
        self.seconds = time.monotonic() - self._began
        self._reader.join(10)
        self.code = self._process.returncode
        return self

    def count(self, word: str) -> int:
        """Return the number of `passed`, `failed`, `device error` … in pytest's last line."""
        found = re.search(rf"(\d+) {word}s?\b", self.output.rstrip().rpartition("\n")[2])
        return int(found[1]) if found else 0

    def until_holds(self, holds: Callable[[], bool], what: str, *, timeout: float = START_UP) -> None:
        """Wait until `holds()`; fail if the run ends before."""
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline or (self._has_ended and not holds()):
                pytest.fail(f"the run has not {what} within {timeout:g}s; its output:\n{self.output}")
            time.sleep(0.05)

    @property
    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)


def write_suite(folder: Path, tests: str, conftest: str = "") -> None:
    """Write a suite of one module, which begins with `STEP`, as does its conftest."""
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(STEP + textwrap.dedent(tests))
    (folder / "conftest.py").write_text(STEP + textwrap.dedent(conftest))
    (folder / "pytest.ini").write_text("[pytest]\n")


def _environ(folder: Path) -> dict[str, str]:
    return ENVIRON | {"XDG_CONFIG_HOME": str(folder), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}

"""Runs in processes of their own, which get signals as a terminal or a CI job sends them."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import pytest

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import AlreadyReleased


@contextmanager
def occupied(client: Client) -> Iterator[Lease]:
    """Let somebody else hold the board that the suite wants."""
    other = client.create_lease(lease_id=f"other-{secrets.token_hex(4)}", selector="kind=dut", duration=120)
    try:
        yield other
    finally:
        with suppress(AlreadyReleased):
            client.delete_lease(other.name)


def _heed_signals() -> None:
    """Undo what `nohup` or a shell's `&` around the tests leaves behind: ignored signals are inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def running(suite: pytest.Pytester, *args: str, wrapper: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run the suite in a process of its own; it is killed in the end if it has not ended by itself."""
    command = [*wrapper, sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *args]
    with subprocess.Popen(
        command,
        cwd=suite.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_heed_signals,  # noqa: PLW1509 - it takes no lock
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(stream: IO[str] | None, word: str) -> None:
    """Read lines until one holds `word`; the end of the stream is a failure."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if word in line:
            return
    pytest.fail(f"never saw {word!r} in:\n{''.join(seen)}")


def until(holds: Callable[[], bool], *, timeout: float) -> None:
    """Wait until something holds; that it does not in time is a failure."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {timeout:g}s")
        time.sleep(0.05)

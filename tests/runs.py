"""Runs in processes of their own, which get signals as a terminal or a CI job sends them."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import IO, Any

import pytest

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import AlreadyReleased
from pytest_jumpstarter.lab import Lab

IS_WHOLE = bool(os.environ.get("PYTEST_MATRIX"))
"""Whether tests run all cells of their matrices."""


def part(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return every second cell of a matrix, as on the black squares of a chessboard; or all of them (`IS_WHOLE`)."""
    cells = product(*map(enumerate, axes))
    return [tuple(value for _, value in cell) for cell in cells if IS_WHOLE or sum(index for index, _ in cell) % 2 == 0]


FEW_PLUGINS = ("-pno:anyio", "-pno:html", "-pno:metadata")
"""Options of inner runs: without these plugins, which few tests need, most take a fifth less CPU time."""


@contextmanager
def occupied(client: Client) -> Iterator[Lease]:
    """Let somebody else hold the board that the suite wants."""
    other = client.create_lease(lease_id=f"other-{secrets.token_hex(4)}", selector="kind=dut", duration=120)
    try:
        until(lambda: client.get_lease(other.name).is_ready, timeout=30)  # else a later lease may be first
        yield other
    finally:
        with suppress(AlreadyReleased):
            client.delete_lease(other.name)


# Undoes what `nohup` or a shell's `&` around the tests leaves behind, since ignored signals are inherited; in a process
# of its own rather than by `preexec_fn`, which runs Python in a fork of this one, with its gRPC threads and all.
_HEED_SIGNALS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
HEEDING_SIGNALS = (sys.executable, "-S", "-c", _HEED_SIGNALS)
"""What a command begins with that gets signals of a test."""

_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
AT_TERMINAL = (sys.executable, "-c", _TERMINAL)
"""What a command begins with that has a terminal."""


@contextmanager
def running(
    suite: pytest.Pytester,
    *args: str,
    wrapper: Sequence[str] = (),
    python: str = sys.executable,
    stdout: IO[str] | int = subprocess.PIPE,
    is_group: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """
    Run the suite in a process of its own; it is killed in the end if it has not ended by itself.

    With `is_group` it leads a process group, as in a job of a CI system, and the whole group is killed.
    """
    command = [*HEEDING_SIGNALS, *wrapper, python, "-m", "pytest", "-s", "-p", "no:cacheprovider", *args]
    with subprocess.Popen(
        command,
        cwd=suite.path,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=is_group,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            if is_group:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for(stream: IO[str] | None, word: str) -> str:
    """Read lines until one holds `word`, and return them; the end of the stream is a failure."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if word in line:
            return "".join(seen)
    pytest.fail(f"never saw {word!r} in:\n{''.join(seen)}")


def until(holds: Callable[[], bool], *, timeout: float) -> None:
    """Wait until something holds; that it does not in time is a failure."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {timeout:g}s")
        time.sleep(0.05)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Let a signal handler raise KeyboardInterrupt in this thread, as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def frozen(*pids: int, seconds: float | None = None) -> Iterator[None]:
    """
    Stop processes, as a machine that is suspended or out of memory does; they go on at the end, whatever happens.

    Args:
        pids: The processes; children of theirs run on unless they are named too.
        seconds: Go on by themselves after so long, while the test does something else; None: not before the end.
    """
    alarm = threading.Timer(seconds, _thaw, pids) if seconds is not None else None
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: all(_state(pid) == "T" for pid in pids), timeout=10)
        if alarm is not None:
            alarm.start()
        yield
    finally:
        if alarm is not None:
            alarm.cancel()
        _thaw(*pids)


def _thaw(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it was killed meanwhile
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    """Return `T` of a process that is stopped, another letter of one that is not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()[:1]


def environ_of(jmp: Path, *, home: Path) -> dict[str, str]:
    """Return the environment of a peer: `jmp` and `j` on its path; no lab, proxy or config of the developer's."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JMP_", "JUMPSTARTER_", "PYTEST_")) and not name.lower().endswith("_proxy")
    }
    return ours | {
        "PATH": f"{jmp.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(home),
        "COLUMNS": "200",  # of its tables and log lines
    }


@contextmanager
def exporting(
    jmp: Path, environ: dict[str, str], config: Path, log: Path, *options: str, modules: Path | None = None
) -> Iterator[None]:
    """Run a real `jmp run` with a config, its output in a file, and end it with SIGTERM."""
    command = [str(jmp), "run", "--exporter-config", str(config), *options]
    environ = environ | ({"PYTHONPATH": str(modules)} if modules else {})  # where drivers of tests are
    with log.open("wb") as out, subprocess.Popen(command, env=environ, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                process.kill()


def exporter_process(lab: Lab, name: str) -> int:
    """Return the process that serves the exporter `name` of this lab: its name is in its command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # it may end while we look
                command = (folder / "cmdline").read_text().split("\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == lab.pid and "pytest_jumpstarter.lab.exporter" in command and name in command:
                    return int(folder.name)
    raise AssertionError(f"no process serves {name}")

"""The exporter processes: start them, keep their last output, restart them, stop them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.documents import Document

STOP_TIMEOUT = 5.0

_RAPID = 60.0  # seconds; a process that lived shorter failed at once, by the rule of `jmp run`
_MOST_RAPID = 5
_LOOPBACK = "127.0.0.1,localhost"


def exporter_environment(temporary: Path) -> dict[str, str]:
    """
    Return the environment variables of exporter processes.

    Jumpstarter's variables are left out: the caller set them for something else. Loopback never uses a proxy. Temporary
    files are created in `temporary`, which is removed with the lab.
    """
    private = ("JMP_", "_JMP_", "JUMPSTARTER_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(private)}
    for key in ("no_proxy", "NO_PROXY"):
        environment[key] = ",".join(filter(None, (environment.get(key), _LOOPBACK)))
    # Hooks call `j`, which is installed beside this interpreter.
    path = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), environment.get("PATH"))))
    return environment | {"PATH": path, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}


class ExporterProcess:
    """
    The process of one exporter that the lab runs itself.

    Args:
        document: The exporter in the lab file.
        temporary: The folder for its sockets and other temporary files.
        say: Called with each line that the user of the lab should read.
    """

    def __init__(self, document: Document, *, temporary: Path, say: Callable[[str], None]) -> None:
        self.name = document.name
        self._document = document
        self._temporary = temporary
        self._say = say
        self._config: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._words: deque[str] = deque(maxlen=5)
        self._listening: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def spawn(self) -> None:
        """Start the process; it imports its drivers and waits for `give`."""
        self._words.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest_jumpstarter.lab.exporter", self.name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=exporter_environment(self._temporary),
            start_new_session=True,
        )  # fmt: skip
        self._listening = asyncio.create_task(self._listen(self._process))
        self._tell({"drivers": self._document.drivers, "temporary": str(self._temporary)})
        if self._config:
            self._tell(str(self._config))

    def give(self, config: Path) -> None:
        """Give the process the path of its config, so that it connects to the lab."""
        self._config = config
        self._tell(str(config))

    @property
    def last_line(self) -> str:
        """The last line of its output; empty if there was none."""
        return self._words[-1] if self._words else ""

    async def fail(self) -> None:
        """Wait until the process ends, which it must not do while the lab starts, and raise its last output."""
        status = await self._wait()
        raise LabError(f"{self._document.source}: exporter {self.name} does not start: {self._last_words(status)}")

    def keep(self) -> None:
        """Restart the process from now on whenever it ends."""
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Stop the process and all processes that it started."""
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        _kill_group(process.pid)
        await process.wait()

    async def _keep(self) -> None:
        rapid = 0
        while True:
            begin = time.monotonic()
            status = await self._wait()
            rapid = rapid + 1 if time.monotonic() - begin < _RAPID else 1
            self._say(f"exporter {self.name} died: {self._last_words(status)}")
            if rapid >= _MOST_RAPID:
                self._say(f"exporter {self.name} died {rapid} times within {_RAPID:.0f} s each; it stays off")
                return
            await asyncio.sleep(0.1 * 2 ** (rapid - 1))
            await self.spawn()
            self._say(f"exporter {self.name} started again")

    async def _wait(self) -> int:
        assert self._process is not None  # spawned before
        assert self._listening is not None
        status = await self._process.wait()
        _kill_group(self._process.pid)
        self._process = None  # its process id may soon be reused
        with contextlib.suppress(TimeoutError):  # processes that it started may keep its output open
            await asyncio.wait_for(self._listening, 1.0)
        return status

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # it is a pipe
        while data := await process.stdout.read(65536):
            for line in data.decode(errors="replace").splitlines():
                if line.strip():
                    self._words.append(line.strip())
                    if self._keeping:  # before that, its last line becomes the error of the lab
                        print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def _tell(self, what: object) -> None:
        assert self._process is not None  # spawned before
        assert self._process.stdin is not None  # it is a pipe
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(what).encode() + b"\n")

    def _last_words(self, status: int) -> str:
        words = self.last_line or "it said nothing"
        return words if status == 1 else f"{words} ({_describe(status)})"


def _kill_group(leader: int) -> None:
    """Kill the processes that drivers and hooks of an exporter started: they are in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"

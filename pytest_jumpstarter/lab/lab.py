"""Start the lab process, wait until it is ready, and stop it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.temporary import TEMPORARY_PREFIX, default_config_dir, remove_temporary

_STOP_TIMEOUT = 15.0


class Lab:
    """
    A lab that runs from `start` to `stop`.

    It runs in a process of its own, outside the terminal's process group, so that leases can still be released after a
    Ctrl-C in a test run. It ends when this object is stopped or its owner dies, however that happens.

    Args:
        paths: Lab files and folders.
        config_dir: The folder for the configs; None: a temporary folder, which is removed at the end.
        clients: Names of more clients besides `default`; each gets a config in `clients/`.
        assign_delay: Seconds by which each new lease is delayed, as if the lab controller was busy.
        timeout: Seconds in which all exporters must be available.
        arguments: More options of `python -m pytest_jumpstarter.lab`.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        config_dir: Path | None = None,
        clients: Sequence[str] = (),
        assign_delay: float = 0.0,
        timeout: float = 60.0,
        arguments: Sequence[str] = (),
    ) -> None:
        self.endpoint = ""
        self._paths = [str(path) for path in paths]
        self._config_dir = config_dir
        self._clients = list(clients)
        self._assign_delay = assign_delay
        self._timeout = timeout
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._log: IO[bytes] | None = None
        self._owner = 0
        self._temporary: Path | None = None

    def __repr__(self) -> str:
        return f"<Lab {self.endpoint or 'stopped'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def config_dir(self) -> Path:
        """The folder with `config.yaml`, `clients/` and `exporters/`; can be used as `JMP_CLIENT_CONFIG_HOME`."""
        if self._config_dir:
            return self._config_dir
        if self._temporary is None:
            raise RuntimeError("the lab is not started")
        return default_config_dir(self._temporary)

    @property
    def client_config(self) -> Path:
        """The config of the client `default`."""
        return self.config_dir / "clients" / "default.yaml"

    @property
    def pid(self) -> int:
        """The process id of the lab."""
        if self._process is None:
            raise RuntimeError("the lab is not started")
        return self._process.pid

    @property
    def log(self) -> str:
        """The output of the lab process so far: exporters that died, and their output."""
        if self._log is None:
            return ""
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def start(self) -> None:
        """
        Start the lab and wait until all exporters that it runs itself are available.

        Raises:
            LabError: A lab file is broken, or an exporter does not start; no process is left behind.
        """
        if self._process is not None:
            raise RuntimeError("the lab is already started")
        try:
            self._spawn()
            self.endpoint = self._await_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the lab and remove its files; a second call does nothing."""
        if self._owner != os.getpid():
            return  # a forked child has a copy of this object, but does not own the lab
        self._close_lifeline()
        process, self._process = self._process, None
        if process:
            _end(process)
        if self._temporary:
            remove_temporary(self._temporary)
        if self._log:
            self._log.close()
        self.endpoint, self._log, self._temporary = "", None, None

    def _spawn(self) -> None:
        self._owner = os.getpid()
        self._temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the lab runs)
        self._lifeline, theirs = socket.socketpair()
        _close_in_children(self)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "pytest_jumpstarter.lab", *self._paths,
                    "--config-dir", str(self.config_dir),
                    "--temporary", str(self._temporary),
                    *(f"--client={name}" for name in self._clients),
                    "--assign-delay", f"{self._assign_delay:f}",
                    "--start-timeout", f"{self._timeout:f}",
                    "--lifeline", str(theirs.fileno()),
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )  # fmt: skip

    def _await_ready(self) -> str:
        """Return the endpoint that the lab process sends on its lifeline."""
        assert self._lifeline is not None  # spawned before
        # The process itself checks the time; this is for one that hangs.
        self._lifeline.settimeout(self._timeout + _STOP_TIMEOUT)
        try:
            with self._lifeline.makefile("r", encoding="utf-8") as lines:
                word, _, rest = lines.readline().rstrip("\n").partition(" ")
        except TimeoutError as error:
            raise LabError(f"the lab is not ready after {self._timeout:g} s: {self._last_words()}") from error
        if word == "ready":
            return rest
        raise LabError(rest if word == "error" else f"the lab process ended: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)  # does nothing if it has ended
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()  # its exporters then end by themselves
        process.wait()


def _close_in_children(lab: Lab) -> None:
    """Close the lifeline in forked children: a child that outlives its parent must not keep the lab alive."""
    weak = weakref.ref(lab)

    def close() -> None:
        if (alive := weak()) is not None:
            alive._close_lifeline()

    os.register_at_fork(after_in_child=close)

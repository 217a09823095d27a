"""
`ControllerEnd`: a socket in the process that prints, by which workers reach people and the lab.

It is a unix socket in a folder that only this user may enter, which is all the authentication it needs. A worker sends
objects of JSON, one a line, and gets one line for each: what it asked for, or nothing but the sign that it was heard.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_jumpstarter.errors import LabError

Message = dict[str, Any]

_CLOSE_TIMEOUT = 5.0
_PREFIX = "pjhub-"  # short: paths of sockets have a limit


class ControllerEnd:
    """
    The socket, from its making to `close`.

    Args:
        answer: Called with each message, in a thread of its worker; returns the answer.

    Attributes:
        address: The path of the socket.

    Raises:
        OSError: There can be no such socket.
    """

    def __init__(self, answer: Callable[[Message], Message]) -> None:
        self._answer = answer
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # mode 0700
        self.address = str(self._folder / "hub")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._is_closed = False
        try:
            self._socket.bind(self.address)
            self._socket.listen()
            self._thread = threading.Thread(target=self._accept, name="jumpstarter-hub", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError):  # RuntimeError: there are no more threads
            self._remove()
            raise

    def close(self) -> None:
        """Take the socket away; workers that are still connected are not heard any more."""
        self._is_closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits in `accept`, on Linux even without the folder
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waker:
            waker.connect(self.address)
        self._thread.join(_CLOSE_TIMEOUT)
        self._remove()

    def _remove(self) -> None:
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._is_closed:
                connection.close()
                return
            try:
                threading.Thread(target=self._serve, args=[connection], name="jumpstarter-worker", daemon=True).start()
            except RuntimeError:  # there are no more threads: nobody hears of this worker
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        """Answer one worker until it is gone."""
        with suppress(OSError, ValueError), connection, connection.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                if self._is_closed:
                    return
                lines.write(json.dumps(self._answer(json.loads(line))) + "\n")
                lines.flush()


ADDRESS = "jumpstarter_hub"


RUN = "jumpstarter_run"
"""The keys in xdist's `workerinput`."""


_LAB_TIMEOUT = 120.0


_TIMEOUT = 5.0


class WorkerEnd:
    """
    One worker's connection; where it breaks, the run goes on, and nobody hears of it.

    Args:
        address: The path of the socket; empty where there is none.
        worker: The worker's name.
    """

    def __init__(self, address: str, worker: str) -> None:
        self._worker = worker
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if address:
            self._connect(address)

    def tell(self, what: str, text: str) -> None:
        """
        Let the process that prints know something.

        Args:
            what: `say`: a line for people. `failure`, `hook_failure`: for the end of the run. `keep`: a lease that is
                left to people. `wait_over`: devices are not waited for any more. `hello`: from here on there may be
                leases, of the process with this id.
            text: What it is about.
        """
        self._ask({"do": what, "text": text}, timeout=_TIMEOUT)

    def lab(self) -> Path:
        """
        Return the client config of the embedded lab, which is started for the first worker that asks.

        Raises:
            LabError: It does not start, or the process that runs it cannot be asked.
        """
        answer = self._ask({"do": "lab"}, timeout=_LAB_TIMEOUT)
        if answer is None:
            raise LabError("the pytest process that runs the embedded lab for its workers does not answer")
        if "config" not in answer:
            raise LabError(answer.get("error", "the embedded lab does not start"))
        return Path(answer["config"])

    def wait(self, wanted: Sequence[tuple[str | None, str | None]]) -> None:
        """Tell the other workers which devices are waited for: selector and exporter name of each."""
        self._ask({"do": "wait", "wanted": wanted}, timeout=_TIMEOUT)

    def wanted_by(self, boards: Sequence[tuple[str, dict[str, str]]]) -> str:
        """Return the worker that has waited too long for one of these boards, by name and labels; empty for none."""
        answer = self._ask({"do": "wanted_by", "boards": boards}, timeout=_TIMEOUT)
        return str((answer or {}).get("worker", ""))

    def _connect(self, address: str) -> None:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.settimeout(_TIMEOUT)
            found.connect(address)
        except OSError:
            found.close()
        else:
            self._socket = found

    def _ask(self, message: dict[str, Any], *, timeout: float) -> dict[str, Any] | None:
        """Send a message and return its answer; None where the other end is not there, now or any more."""
        if os.getpid() != self._process:  # in a forked child the lock may be held for ever
            return None
        with self._lock:
            if self._socket is None:
                return None
            try:
                self._socket.settimeout(timeout)
                self._socket.sendall(json.dumps(message | {"worker": self._worker}).encode() + b"\n")
                with self._socket.makefile("r", encoding="utf-8") as lines:  # the answer is one line, and all there is
                    answer: dict[str, Any] = json.loads(lines.readline())
                return answer
            except (OSError, ValueError):
                self._socket.close()
                self._socket = None
                return None

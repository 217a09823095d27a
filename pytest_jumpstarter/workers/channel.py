"""
The channel between xdist's controller process (`ControllerEnd`) and its workers (`WorkerEnd`).

It is a unix socket in a folder with mode 0700: only this user can connect, so no other authentication is needed. A
message is a JSON object in one line. A worker sends a message and waits for the answer, which may be empty.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pytest_jumpstarter.errors import LabError

Message = dict[str, Any]
"""`do` is what a worker asks for, see `WorkerEnd`; `worker` is its name."""

ADDRESS = "jumpstarter_channel"
RUN_ID = "jumpstarter_run"
"""The keys in xdist's `workerinput`."""

_PREFIX = "pjxdist-"  # short, because the paths of sockets have a limit
_CLOSE_TIMEOUT = 5.0
_LAB_TIMEOUT = 120.0
_TOKEN_TIMEOUT = 60.0
_TIMEOUT = 5.0


class ControllerEnd:
    """
    The socket of the controller process; it exists until `close`.

    Args:
        answer: Called with each message, in a separate thread for each worker; returns the answer.

    Attributes:
        address: The path of the socket.

    Raises:
        OSError: The socket cannot be created.
        RuntimeError: No thread can be started.
    """

    def __init__(self, answer: Callable[[Message], Message]) -> None:
        self._answer = answer
        self._is_closed = False
        with ExitStack() as stack:
            folder = tempfile.mkdtemp(prefix=_PREFIX)  # mode 0700
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self.address = f"{folder}/socket"
            self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._socket.bind(self.address)
            self._socket.listen()
            self._thread = threading.Thread(target=self._accept, name="jumpstarter-channel", daemon=True)
            self._thread.start()
            self._resources = stack.pop_all()

    def close(self) -> None:
        """Remove the socket; workers that are still connected get no more answers."""
        self._is_closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # on Linux this ends `accept`, even without the folder
        with suppress(OSError), socket.socket(socket.AF_UNIX) as waker:
            waker.connect(self.address)  # elsewhere this does
        self._thread.join(_CLOSE_TIMEOUT)
        self._resources.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                if self._is_closed:
                    connection.close()
                    return
                thread = threading.Thread(target=self._serve, args=[connection], name="jumpstarter-worker", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads: this worker gets no answers
                    connection.close()

    def _serve(self, connection: socket.socket) -> None:
        """Answer the messages of one worker until it ends."""
        with suppress(OSError, ValueError), connection, connection.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                if self._is_closed:
                    return
                print(json.dumps(self._answer(json.loads(line))), file=lines, flush=True)


class WorkerEnd:
    """
    The connection of one worker; if it breaks, the run continues without it.

    Args:
        address: The path of the socket; empty if there is none.
        worker: The name of the worker.
    """

    def __init__(self, address: str, worker: str) -> None:
        self._worker = worker
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._address = address
        self._socket: socket.socket | None = None

    def tell(self, what: str, text: str) -> None:
        """
        Send a message that needs no answer.

        Args:
            what: `say`: show a line. `say_once`: show it once for all workers. `failure`, `hook_failure`: show a
                failure at the end of the run. `keep`: do not release this lease, which is kept for people.
                `wait_over`: the wait for devices is over. `hello`: this process id may have leases from now on.
                `refused`: an access policy refuses this exporter.
            text: The line, failure, lease, process id or exporter.
        """
        self._ask({"do": what, "text": text}, timeout=_TIMEOUT)

    def lab(self) -> Path:
        """
        Return the client config of the embedded lab, which starts when the first worker asks for it.

        Raises:
            LabError: The lab does not start, or the controller process does not answer.
        """
        answer = self._ask({"do": "lab"}, timeout=_LAB_TIMEOUT)
        if answer is None:
            raise LabError("the pytest process that runs the embedded lab for its workers does not answer")
        if "config" not in answer:
            raise LabError(answer.get("error", "the embedded lab does not start"))
        return Path(answer["config"])

    def token(self, expired: str) -> Message | None:
        """Return what the controller process has in place of an expired token; None if it does not answer."""
        return self._ask({"do": "token", "text": expired}, timeout=_TOKEN_TIMEOUT)

    def wait(self, wanted: Sequence[tuple[str | None, str | None]]) -> None:
        """Report the start of a wait for devices to other workers: selector and exporter name of each device."""
        self._ask({"do": "wait", "wanted": wanted}, timeout=_TIMEOUT)

    def wanted_by(self, boards: Sequence[tuple[str, dict[str, str]]]) -> str:
        """Return the worker that has waited too long for one of these boards (name, labels); empty if there is none."""
        answer = self._ask({"do": "wanted_by", "boards": boards}, timeout=_TIMEOUT)
        return str((answer or {}).get("worker", ""))

    def refused_exporters(self) -> list[str]:
        """Return the exporters that an access policy refused to workers of this run."""
        answer = self._ask({"do": "refused_exporters"}, timeout=_TIMEOUT)
        return list((answer or {}).get("exporters", ()))

    def _ask(self, message: Message, *, timeout: float) -> Message | None:
        """Send a message and return the answer; None without a connection, and from the first failure on."""
        if os.getpid() != self._process:  # in a forked child the lock may stay locked
            return None
        with self._lock:
            if not self._address:
                return None
            try:
                return self._exchange(message | {"worker": self._worker}, timeout)
            except (OSError, ValueError):
                self._address = ""
                self._disconnect()
                return None
            except BaseException:  # of a signal handler: the answer still comes, and is not that to the next message
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, message: Message, timeout: float) -> Message:
        """Send a message and return the answer; connect for the first one."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(self._address)
        self._socket.settimeout(timeout)
        self._socket.sendall(json.dumps(message).encode() + b"\n")
        with self._socket.makefile(encoding="utf-8") as lines:  # nothing follows the answer, which is one line
            answer: Message = json.loads(lines.readline())
        return answer

"""
`Hub`: a socket in the process that prints, by which workers reach people and the lab.

It is a unix socket in a folder that only this user may enter, which is all the authentication it needs. A worker sends
objects of JSON, one a line, and gets one line for each: what it asked for, or nothing but the sign that it was heard.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Message = dict[str, Any]

_CLOSE_TIMEOUT = 5.0
_PREFIX = "pjhub-"  # short: paths of sockets have a limit


class Hub:
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
        except OSError:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._accept, name="jumpstarter-hub", daemon=True)
        self._thread.start()

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
            threading.Thread(target=self._serve, args=[connection], name="jumpstarter-worker", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Answer one worker until it is gone."""
        with suppress(OSError, ValueError), connection, connection.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                if self._is_closed:
                    return
                lines.write(json.dumps(self._answer(json.loads(line))) + "\n")
                lines.flush()

"""The local end of a connection of the tunnel: a socket that is read in advance and can be closed at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

_FOLDER = "pj-{}-"


def new_folder() -> str:
    """Make a folder for a socket, whose path must be short; its name tells whose it is, in case we are killed."""
    return tempfile.mkdtemp(prefix=_FOLDER.format(os.getpid()))


def remove_folders_of(pid: int) -> None:
    """Remove the folders of a process that is lost."""
    for folder in Path(tempfile.gettempdir()).glob(_FOLDER.format(pid) + "*"):
        shutil.rmtree(folder, ignore_errors=True)


class SocketEnd:
    """
    A connected socket in the running loop.

    Data that arrives while nobody reads is kept for the next `read`, up to one frame; then the sender has to wait.

    Args:
        connection: The socket, which this object will close.
        frame_bytes: The largest number of bytes that one `read` returns.
    """

    def __init__(self, connection: socket.socket, *, frame_bytes: int) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._frame_bytes = self._room = frame_bytes
        self._ahead: list[bytes] = []
        self._is_at_end = False
        self._failure: OSError | None = None
        self._news = asyncio.Event()
        self._loop.add_reader(connection, self._receive)

    async def read(self) -> bytes:
        """
        Return the data that arrived, after waiting for some; empty at the end of input.

        Raises:
            OSError: The connection broke.
        """
        await self._news.wait()
        if self._failure is not None:
            raise self._failure
        frame = b"".join(self._ahead)  # copies nothing if there is only one object
        self._ahead.clear()
        if not self._is_at_end:
            self._news.clear()
            if self._room == 0:
                self._loop.add_reader(self._socket, self._receive)
        self._room = self._frame_bytes
        return frame

    async def write(self, payload: bytes) -> None:
        """
        Write all of `payload`, however long the other side takes to read it.

        Raises:
            OSError: The connection broke.
        """
        await self._loop.sock_sendall(self._socket, payload)

    def write_eof(self) -> None:
        """Tell the other side that no more data comes; it may still send."""
        with suppress(OSError):  # the other side is gone
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket at once, without waiting for the loop; a second call does nothing."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def _receive(self) -> None:
        data = b""
        try:
            data = self._socket.recv(self._room)
        except BlockingIOError:
            return
        except OSError as exc:
            self._failure = exc
        self._ahead.append(data)
        self._room -= len(data)
        self._is_at_end = not data
        if self._is_at_end or self._room == 0:
            self._loop.remove_reader(self._socket)
        self._news.set()

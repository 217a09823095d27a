"""`PortReader`: reads the recording of a shared port in the thread of a test, and sends to the port."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.device.shared_port import PortStream, SharedPort

_MOST_UNSENT = 1 << 18  # bytes; a sender that is faster waits


class PortReader:
    """
    Reads what a shared port records, from a position of its own, and sends to the port.

    Made in the port's loop; used in any thread. No lock is held while it waits, so that an error which a signal handler
    raises there leaves nothing behind.

    Args:
        port: The port, which is open.
        stream: The stream that keeps it open; reading begins at its position.

    Attributes:
        position: Where it goes on.
        stream: As given.
    """

    def __init__(self, port: SharedPort, stream: PortStream) -> None:
        self.position = stream.position
        self.stream = stream
        self._port = port
        self._opening = port.opening
        self._loop = asyncio.get_running_loop()
        self._news: SimpleQueue[None] = SimpleQueue()
        self._is_closed = False
        self._unsent: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._queued = self._sent = 0
        port.readers.add(self.wake)

    def wake(self) -> None:
        """Wake the thread that waits in `read` or `send`."""
        if self._news.empty():
            self._news.put(None)

    @property
    def end(self) -> int:
        """The position at which there is nothing to be read for the moment."""
        end = self._opening.end
        return self._port.recording.end if end is None else end

    @property
    def is_open(self) -> bool:
        """Whether more may come; a stream that ended is not open again, although the port may be."""
        return not self._is_closed and self._opening.trouble is None

    @property
    def trouble(self) -> BaseException | None:
        """The error that ended the stream of the driver; None if it did not end."""
        return self._opening.trouble

    async def reopen(self) -> None:
        """Open the port again, after its stream has ended; called in the loop."""
        await self._port.open()
        self._opening = self._port.opening

    def read(self, size: int, timeout: float | None) -> bytes:
        """
        Wait for output and return it.

        Raises:
            TimeoutError: None came within `timeout` seconds; None waits until some comes.
            EOFError: The stream has ended, and all was read.
        """
        deadline = None if timeout is None else real_time.monotonic() + timeout
        while True:
            is_open = self.is_open  # before the look: nothing comes after the end
            self.position, data = self._port.recording.read(self.position, min(size, max(0, self.end - self.position)))
            if data:
                return data
            if not is_open:
                raise EOFError
            self._wait(deadline)

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - real_time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        with suppress(Empty):
            self._news.get(timeout=left)

    def send(self, data: bytes) -> None:
        """
        Send to the board; wait if much is on its way.

        Raises:
            BrokenPipeError: The stream has ended.
        """
        if not self.is_open:
            raise BrokenPipeError("the console is closed")
        self._queued += len(data)
        try:
            self._loop.call_soon_threadsafe(self._send_soon, data)
        except RuntimeError as exc:  # the loop has ended
            raise BrokenPipeError("the console is closed") from exc
        while self._queued - self._sent > _MOST_UNSENT and self.is_open:
            self._wait(None)

    def _send_soon(self, data: bytes) -> None:
        self._unsent.append(data)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        with suppress(Exception):  # of a stream that has ended, or that cannot be opened again: reading shows it
            while self._unsent:
                data = b"".join(self._unsent)
                self._unsent.clear()
                await self._port.write(data)
                self._sent += len(data)
                self.wake()

    def close(self) -> None:
        """End reading and sending; a second call does nothing."""
        self._is_closed = True
        self._port.readers.discard(self.wake)
        self.wake()

"""
`SharedPort`: the only reader of a serial port; everybody else reads what it recorded.

If two readers opened one serial port, each would get a part of its output. So the driver's stream is opened once, when
it is first needed, and read until the device is released. Its output is recorded. Everybody who opens the console,
including drivers that do so by themselves, reads from the recording.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ObjectStream

from pytest_jumpstarter.device.recording import Recording

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

_METHOD = "connect"
_CHUNK_BYTES = 1 << 16
OPEN_TIMEOUT = 30.0
"""Seconds for the exporter to open a console."""

_RECORD_TIMEOUT = 10.0


class SharedPort:
    """
    The stream of one console driver, shared by all who use it.

    Args:
        driver: The driver client of the console.

    Attributes:
        path: The dotted path of the driver.
        recording: Its output since it was first opened.
        since: The position in the recording at which the current test began; a new console reads from there.
        ended: The position at which the stream last ended.
        failure: Why `record` could not open the stream; empty if it could.
        opened: When the stream was last opened, by `time.monotonic()`.
    """

    def __init__(self, driver: DriverClient, path: str) -> None:
        self.path = path
        self.recording = Recording()
        self.since = 0
        self.ended = 0
        self.failure = ""
        self.opened = 0.0
        self._open: Callable[[str], AbstractAsyncContextManager[ObjectStream[bytes]]] = driver.stream_async
        self._stream: ObjectStream[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._trouble: BaseException | None = None
        self._news = asyncio.Event()
        self._opening = asyncio.Lock()

    def share(self, driver: DriverClient) -> None:
        """Make the streams that `driver`, a client of the same console, opens read from this port."""
        driver.stream_async = self.stream_async  # type: ignore[method-assign]

    @asynccontextmanager
    async def stream_async(self, method: str = _METHOD) -> AsyncIterator[ObjectStream[bytes]]:
        """Open the console as a driver client does; the stream begins with the next output."""
        if method == _METHOD:
            async with await self.open_stream() as stream:
                yield stream
        else:
            async with self._open(method) as other:
                yield other

    async def open_stream(self, position: int | None = None) -> PortStream:
        """Return a stream that begins at `position`, or with the next output."""
        begin = self.recording.end if position is None else position
        await self.open()
        return PortStream(self, begin)

    async def open(self) -> None:
        """
        Open the driver's stream if it is not open.

        Raises:
            TimeoutError: The exporter did not open it within `OPEN_TIMEOUT`.
            Exception: Whatever the driver client raises.
        """
        async with self._opening:
            if self._reading is None or self._reading.done():
                opened = asyncio.get_running_loop().create_future()
                self._trouble = None
                self._reading = asyncio.create_task(self._read(opened))
                try:
                    async with asyncio.timeout(OPEN_TIMEOUT):
                        await asyncio.shield(opened)
                except TimeoutError as exc:
                    raise TimeoutError(f"no answer within {OPEN_TIMEOUT:g}s") from exc
                finally:
                    if not opened.done():  # nobody waits for it any more
                        self._reading.cancel()

    async def record(self) -> None:
        """Open the driver's stream for the recording only; if that fails, note it in `failure`."""
        try:
            async with asyncio.timeout(_RECORD_TIMEOUT):
                await self.open()
        except Exception as exc:
            self.failure = f"cannot be opened: {type(exc).__name__}: {exc}"

    def close(self, portal: BlockingPortal) -> None:
        """Close the driver's stream, from outside the loop's thread; the recording stays readable."""
        if self._reading is not None:
            with suppress(RuntimeError):  # the loop has ended
                portal.start_task_soon(self._stop)

    async def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, opened: asyncio.Future[None]) -> None:
        """Read until the stream ends, and keep the reason."""
        try:
            async with self._open(_METHOD) as stream:
                self._stream = stream
                self.opened = time.monotonic()
                opened.set_result(None)
                while True:
                    self.recording.append(await stream.receive())
                    self._wake_readers()
        except asyncio.CancelledError:
            self._trouble = ClosedResourceError()
            opened.cancel()  # if it is not open yet
            raise
        except Exception as exc:
            self._trouble = exc if isinstance(exc, (EndOfStream, BrokenResourceError)) else _broken(exc)
            if not opened.done():
                opened.set_exception(exc)
        finally:
            self._stream, self.ended = None, self.recording.end
            self._wake_readers()

    def _wake_readers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, position: int) -> tuple[int, bytes]:
        """Wait for output at `position`; return the position after it, and the output."""
        while True:
            news, trouble = self._news, self._trouble
            position, data = self.recording.read(position, _CHUNK_BYTES)
            if data:
                return position, data
            if trouble is not None:
                raise _again(trouble)
            await news.wait()

    async def write(self, data: bytes) -> None:
        """Send `data` to the board."""
        if self._stream is None:
            raise ClosedResourceError
        await self._stream.send(data)


class PortStream(ObjectStream[bytes]):
    """One user's stream of a shared port, with a position of its own in the recording."""

    def __init__(self, port: SharedPort, position: int) -> None:
        self._port = port
        self._position = position

    async def receive(self) -> bytes:
        """Wait for output of the board and return it."""
        self._position, data = await self._port.read(self._position)
        return data

    async def send(self, item: bytes) -> None:
        """Send to the board."""
        await self._port.write(item)

    async def send_eof(self) -> None:
        """Do nothing: other users go on writing."""

    async def aclose(self) -> None:
        """Do nothing: other users go on reading."""


def _broken(cause: Exception) -> BaseException:
    """Return the error that anyio raises for a broken stream, with its cause."""
    broken = BrokenResourceError()
    broken.__cause__ = cause
    return broken


def _again(trouble: BaseException) -> BaseException:
    """Return a copy of an error, so that each reader raises its own."""
    again = type(trouble)(*trouble.args)
    again.__cause__ = trouble.__cause__
    return again

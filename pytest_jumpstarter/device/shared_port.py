"""
`SharedPort`: the one reader of a serial port, and the ports that it offers to everybody else.

Two readers of one serial port steal from each other. So the driver's stream is opened once, when first needed, and read
until the board goes back; what comes is recorded, and whoever opens the console, a driver that does so by itself
included, follows the recording.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ObjectStream

from pytest_jumpstarter.device.recording import Recording

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_METHOD = "connect"
_CHUNK_BYTES = 1 << 16
_OPEN_TIMEOUT = 10.0


class SharedPort:
    """
    The stream of one console driver, shared.

    Args:
        driver: The console's driver client.

    Attributes:
        path: The driver's dotted path.
        recording: What came out of it, since it was first opened.
        since: The position at which the test under way began, and with it those who did not read before.
        ended: The position at which the stream ended last.
        failure: Why `record` could not open it; empty if all is well.
        opened: When the stream was opened last, by `time.monotonic()`.
    """

    def __init__(self, driver: Any, path: str) -> None:
        self.path = path
        self.recording = Recording()
        self.since = 0
        self.ended = 0
        self.failure = ""
        self.opened = 0.0
        self._open: Callable[..., AbstractAsyncContextManager[Any]] = driver.stream_async
        self._stream: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._trouble: BaseException | None = None
        self._news = asyncio.Event()
        self._opening = asyncio.Lock()

    def share(self, driver: Any) -> None:
        """Let everybody who opens the stream of `driver`, a client of the same console, read from this port."""
        driver.stream_async = self.stream_async

    @asynccontextmanager
    async def stream_async(self, method: str = _METHOD) -> AsyncIterator[Any]:
        """Open the console as a driver client does; what comes from now on can be read."""
        if method == _METHOD:
            async with await self.open_stream() as stream:
                yield stream
        else:
            async with self._open(method) as other:
                yield other

    async def open_stream(self, position: int | None = None) -> PortStream:
        """Return a stream that begins at `position`, or with what comes from now on."""
        begin = self.recording.end if position is None else position
        await self.open()
        return PortStream(self, begin)

    async def open(self) -> None:
        """
        Open the driver's stream, if it is not open.

        Raises:
            Exception: What the driver client raises.
        """
        async with self._opening:
            if self._reading is None or self._reading.done():
                opened = asyncio.get_running_loop().create_future()
                self._trouble = None
                self._reading = asyncio.create_task(self._read(opened))
                await asyncio.shield(opened)

    async def record(self) -> None:
        """Open the driver's stream for the recording alone, so that it is no trouble if that fails."""
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT):
                await self.open()
        except Exception as exc:
            self.failure = f"cannot be opened: {type(exc).__name__}: {exc}"

    def close(self, portal: BlockingPortal) -> None:
        """Close the driver's stream, from another thread than the loop's; what was recorded stays readable."""
        if self._reading is not None:
            with suppress(RuntimeError):  # the loop has ended
                portal.start_task_soon(self._stop)

    async def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, opened: asyncio.Future[None]) -> None:
        """Read until the stream ends, and keep why it did."""
        try:
            async with self._open(_METHOD) as self._stream:
                self.opened = time.monotonic()
                opened.set_result(None)
                while True:
                    self.recording.append(await self._stream.receive())
                    self._tell()
        except asyncio.CancelledError:
            self._trouble = ClosedResourceError()
            opened.cancel()
            raise
        except Exception as exc:
            self._trouble = exc if isinstance(exc, (EndOfStream, BrokenResourceError)) else _broken(exc)
            if not opened.done():
                opened.set_exception(exc)
        finally:
            self._stream, self.ended = None, self.recording.end
            self._tell()

    def _tell(self) -> None:
        """Wake those who wait for more."""
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, position: int) -> tuple[int, bytes]:
        """Wait for what comes at `position`; return it, and the position after it."""
        while True:
            news, trouble = self._news, self._trouble
            position, data = self.recording.read(position, _CHUNK_BYTES)
            if data:
                return position, data
            if trouble is not None:
                raise _again(trouble)
            await news.wait()

    async def write(self, data: bytes) -> None:
        """Send to the board."""
        if self._stream is None:
            raise ClosedResourceError
        await self._stream.send(data)


class PortStream(ObjectStream[bytes]):
    """A console as one of several sees it, with a position of its own."""

    def __init__(self, port: SharedPort, position: int) -> None:
        self._port = port
        self._position = position

    async def receive(self) -> bytes:
        """Wait for output of the board."""
        self._position, data = await self._port.read(self._position)
        return data

    async def send(self, item: bytes) -> None:
        """Send to the board."""
        await self._port.write(item)

    async def send_eof(self) -> None:
        """Do nothing: others go on writing."""

    async def aclose(self) -> None:
        """Do nothing: others go on reading."""


def _broken(cause: Exception) -> BaseException:
    """Return what anyio calls a stream that broke for a reason that it does not know."""
    broken = BrokenResourceError()
    broken.__cause__ = cause
    return broken


def _again(trouble: BaseException) -> BaseException:
    """Return an error that each of several readers can raise."""
    again = type(trouble)(*trouble.args)
    again.__cause__ = trouble.__cause__
    return again

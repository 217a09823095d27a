"""
`SharedPort`: the only reader of a serial port; everybody else reads what it recorded.

If two readers opened one serial port, each would get a part of its output. So the driver's stream is opened once, when
it is first needed, and its output is recorded. Everybody who opens the console, including drivers that do so by
themselves, reads from the recording.

The port is closed when its last user has closed it, unless it is recorded for its own sake; and it can be given to
others for a while, because a flasher on the exporter may need it for itself. If the exporter closes it, it is opened
again. The recording knows none of this; the times are in `gaps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ObjectStream

from pytest_jumpstarter.device.port_reader import PortReader
from pytest_jumpstarter.device.recording import Recording
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

_METHOD = "connect"
_CHUNK_BYTES = 1 << 16
OPEN_TIMEOUT = 30.0
"""Seconds for the exporter to open a console."""

_RECORD_TIMEOUT = 10.0
REOPEN_AFTER = 1.0
"""Seconds without a driver call after which a port that the exporter closed is opened again: it may need the port."""

_REOPEN_EVERY = 5.0
_CLOSE_TIMEOUT = 2.0
_ROUND_TRIPS = 3
"""Calls that the exporter answers after it was told that the stream is over: by then it has closed the port."""

UNUSED = "nobody uses it"


@dataclass(slots=True)
class Gap:
    """
    A time without recording.

    Attributes:
        reason: Why the port was closed.
        closed: When it was closed, in Unix time.
        opened: When it was opened again; None if it was not.
    """

    reason: str
    closed: float
    opened: float | None = None


class Opening:
    """
    One opening of a driver's stream, with the times in which it is parked.

    Attributes:
        trouble: The error that ended it; None while it is open.
        end: The position in the recording at which it ended.
    """

    def __init__(self) -> None:
        self.trouble: BaseException | None = None
        self.end: int | None = None


class SharedPort:
    """
    The stream of one console driver, shared by all who use it.

    Args:
        driver: The driver client of the console.
        path: The dotted path of the driver.
        is_busy: Returns whether a driver call is running.

    Attributes:
        path: As given.
        recording: Its output while it was open.
        since: The position in the recording at which the current test began; a new console reads from there.
        ended: The position at which the stream last ended.
        failure: Why `record` could not open the stream; empty if it could.
        opened: When the stream was last opened, by `time.monotonic()`.
        gaps: When the port was closed after it had been open.
        opening: Its last opening.
        readers: Called in the loop when there is more to read.
    """

    def __init__(self, driver: DriverClient, path: str, is_busy: Callable[[], bool] = lambda: False) -> None:
        self.path = path
        self.recording = Recording()
        self.since = 0
        self.ended = 0
        self.failure = ""
        self.opened = 0.0
        self.gaps: list[Gap] = []
        self._driver = driver
        self._open: Callable[[str], AbstractAsyncContextManager[ObjectStream[bytes]]] = driver.stream_async
        self._is_busy = is_busy
        self._is_recorded = False
        self._loans = 0
        self._streams: set[PortStream] = set()
        self._stream: ObjectStream[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._parked = ""
        self._is_closed = False
        self.opening = Opening()
        self.readers: set[Callable[[], None]] = set()
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()

    @property
    def is_lent(self) -> bool:
        """Whether the port is free for others, inside of `port_free`."""
        return self._loans > 0

    @property
    def is_parked(self) -> bool:
        """Whether the port was closed by us, so that its users wait and see no end."""
        return bool(self._parked)

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
        stream = PortStream(self, begin, is_of_borrower=self.is_lent)
        self._streams.add(stream)  # first, so that nobody closes the port meanwhile
        try:
            await self.open()
        except BaseException:
            self._streams.discard(stream)
            raise
        return stream

    async def open_reader(self, position: int) -> PortReader:
        """Return what reads from `position` in other threads."""
        return PortReader(self, await self.open_stream(position))

    async def open(self) -> None:
        """
        Open the driver's stream if it is not open.

        Raises:
            TimeoutError: The exporter did not open it within `OPEN_TIMEOUT`.
            Exception: Whatever the driver client raises.
        """
        async with self._changing:
            if self._reading is None or self._reading.done():
                opened = asyncio.get_running_loop().create_future()
                self.opening = self.opening if self._parked else Opening()
                self._parked = ""
                self._reading = asyncio.create_task(self._read(opened, self.opening))
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
        self._is_recorded = True
        try:
            async with asyncio.timeout(_RECORD_TIMEOUT):
                await self.open()
        except Exception as exc:
            self.failure = f"cannot be opened: {type(exc).__name__}: {exc}"

    async def park(self, reason: str) -> None:
        """Close the driver's stream until somebody needs it; the streams of its users wait, and end not."""
        async with self._changing:
            if self._reopening is not None:
                self._reopening.cancel()
            if self._reading is None or self._reading.done():
                return
            self._parked = reason
            self._reading.cancel()
            await asyncio.wait([self._reading], timeout=_CLOSE_TIMEOUT)
            with suppress(Exception):  # of a connection that broke: then the exporter closes the port anyway
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._until_heard()

    async def lend(self, reason: str) -> None:
        """Close the port for somebody else; `take_back` ends this. Streams that are opened meanwhile work."""
        self._loans += 1
        await self.park(reason)

    async def take_back(self, *, opens: bool) -> None:
        """
        End a loan, and open the port for those who used it before; if that fails, their next use shows it.

        Args:
            opens: Wait until it is open. After an error it is opened in the background: the device may be lost.
        """
        self._loans -= 1
        if not self.is_lent and self._is_needed and not self._is_closed:
            self._settling = asyncio.create_task(self._try_to_open())
            if opens:
                await self.settle()

    async def leave(self, stream: PortStream) -> None:
        """Remove a user's stream; after that of the last user, close the port."""
        if stream in self._streams:
            self._streams.discard(stream)
            if not self._is_needed and not self._is_closed:
                self._settling = asyncio.create_task(self._park_unused())
        await self.settle()

    async def settle(self) -> None:
        """Wait until a port that nobody uses is closed, or one that was lent is open."""
        if self._settling is not None:
            await asyncio.shield(self._settling)

    def close(self, portal: BlockingPortal) -> None:
        """Close the driver's stream, from outside the loop's thread; the recording stays readable."""
        with suppress(RuntimeError):  # the loop has ended
            portal.start_task_soon(self._stop)

    @property
    def _is_needed(self) -> bool:
        if self.is_lent:
            return any(stream.is_of_borrower for stream in self._streams)
        return self._is_recorded or bool(self._streams)

    async def _try_to_open(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_RECORD_TIMEOUT):
                await self.open()

    async def _park_unused(self) -> None:
        if not self._is_needed:
            await self.park(UNUSED)

    async def _until_heard(self) -> None:
        """Wait until the exporter has closed the port: it answers calls after it has read that the stream is over."""
        from google.protobuf import empty_pb2

        for _ in range(_ROUND_TRIPS):
            await self._driver.stub.GetReport(empty_pb2.Empty())

    async def _stop(self) -> None:
        self._is_closed = True
        for task in (self._reopening, self._reading):
            if task is not None:
                task.cancel()

    async def _read(self, opened: asyncio.Future[None], opening: Opening) -> None:
        """Read until the stream ends, and keep the reason."""
        reason = ""
        try:
            async with self._open(_METHOD) as stream:
                self._stream = stream
                self.opened = real_time.monotonic()
                if self.gaps and self.gaps[-1].opened is None:
                    self.gaps[-1].opened = real_time.time()
                opened.set_result(None)
                while True:
                    self.recording.append(await stream.receive())
                    self._wake_readers()
        except asyncio.CancelledError:
            opening.trouble = None if self._parked else ClosedResourceError()
            reason = self._parked
            opened.cancel()  # if it is not open yet
            raise
        except Exception as exc:
            opening.trouble = exc if isinstance(exc, (EndOfStream, BrokenResourceError)) else _broken(exc)
            reason = "the exporter closed it" if isinstance(exc, EndOfStream) else "the connection broke"
            if not opened.done():
                opened.set_exception(exc)
        finally:
            if self._stream is not None and reason:
                self.gaps.append(Gap(reason, real_time.time()))
                if not self._parked and (self._reopening is None or self._reopening.done()):
                    self._reopening = asyncio.create_task(self._reopen())
            self._stream, self.ended = None, self.recording.end
            opening.end = None if opening.trouble is None else self.ended
            self._wake_readers()

    async def _reopen(self) -> None:
        """Open the port again, once no driver call needs it; as often as it takes."""
        delay = REOPEN_AFTER
        while not self._is_closed and not self._parked:
            quiet_since = real_time.monotonic()
            while real_time.monotonic() < quiet_since + delay:
                await asyncio.sleep(REOPEN_AFTER / 10)
                if self._is_busy():
                    quiet_since = real_time.monotonic()
            if self._stream is not None or not self._is_needed or self.is_lent:
                return
            with suppress(Exception):
                await self.open()
                return
            delay = _REOPEN_EVERY

    def _wake_readers(self) -> None:
        for wake in tuple(self.readers):
            wake()
        self._news.set()
        self._news = asyncio.Event()

    async def read(self, position: int) -> tuple[int, bytes]:
        """Wait for output at `position`; return the position after it, and the output."""
        while True:
            news, trouble = self._news, self.opening.trouble
            position, data = self.recording.read(position, _CHUNK_BYTES)
            if data:
                return position, data
            if trouble is not None:
                raise _again(trouble)
            await news.wait()

    async def write(self, data: bytes) -> None:
        """Send `data` to the board; open the port if it is parked."""
        if self._stream is None and self.opening.trouble is None and not self.is_lent:
            await self.open()
        if self._stream is None:
            raise ClosedResourceError
        await self._stream.send(data)


class PortStream(ObjectStream[bytes]):
    """
    One user's stream of a shared port, with a position of its own in the recording.

    Attributes:
        position: The position after what was received.
        is_of_borrower: Whether it was opened while the port was lent.
    """

    def __init__(self, port: SharedPort, position: int, *, is_of_borrower: bool = False) -> None:
        self._port = port
        self.position = position
        self.is_of_borrower = is_of_borrower

    async def receive(self) -> bytes:
        """Wait for output of the board and return it."""
        self.position, data = await self._port.read(self.position)
        return data

    async def send(self, item: bytes) -> None:
        """Send to the board."""
        await self._port.write(item)

    async def send_eof(self) -> None:
        """Do nothing: other users go on writing."""

    async def aclose(self) -> None:
        """Leave the port, which others may go on using."""
        await self._port.leave(self)


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

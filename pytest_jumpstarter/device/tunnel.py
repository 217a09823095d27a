"""
The tunnel: a unix socket on this machine whose connections end at the exporter's gRPC server.

Each connection is one Dial and one `RouterService.Stream`, which carries the bytes of an HTTP/2 connection. A frame has
at most `FRAME_BYTES` of payload. The end of input is a GOAWAY frame, then a half-closed stream.

Source: jumpstarter.v1.RouterService (router.proto), ControllerService.Dial
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio
from jumpstarter_protocol import router_pb2, router_pb2_grpc

from pytest_jumpstarter.device.socket_end import SocketEnd, new_folder

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Route

    _Stream: TypeAlias = grpc.aio.StreamStreamCall[router_pb2.StreamRequest, router_pb2.StreamResponse]

FRAME_BYTES = 1 << 18
"""Larger frames do not make a flash faster, but need more memory, and more CPU time because of the cache."""

ROUTER_RESTART = 5.0
"""Seconds for which an unreachable router is tried again: it may be restarting."""

_REPEAT = 0.1
_HANG_UP_TIMEOUT = 1.0
"""Seconds to wait until gRPC has noticed the end of a connection, which normally takes milliseconds."""
_STATUS_TIMEOUT = 1.0
_GRPC_NONSENSE = "Internal error from Core"
"""The details that grpc.aio reports if a stream ends during a write; the router's own text is lost."""


class RouterChannels:
    """The channels to routers, one for each router, shared by all streams of one tunnel."""

    def __init__(
        self,
        credentials: Callable[[str], grpc.ChannelCredentials],
        options: Callable[[str], Sequence[tuple[str, str | int]]],
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def stream(self, route: Route) -> _Stream:
        """
        Open the stream of `route`; a route is good for one stream.

        Raises:
            AioRpcError: The router was unreachable for `ROUTER_RESTART` seconds, or refuses the token.
        """
        deadline = time.monotonic() + ROUTER_RESTART
        while True:
            stream = self._stream(route)
            try:
                await stream.wait_for_connection()
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_REPEAT)
            else:
                return stream

    def _stream(self, route: Route) -> _Stream:
        channel = self._channels.get(route.endpoint)
        if channel is None:
            channel = grpc.aio.secure_channel(
                route.endpoint, self._credentials(route.endpoint), options=list(self._options(route.endpoint))
            )
            self._channels[route.endpoint] = channel
        stub = router_pb2_grpc.RouterServiceStub(channel)
        return stub.Stream(metadata=(("authorization", f"Bearer {route.token}"),))

    async def close(self) -> None:
        """Close every channel, and with it every stream."""
        for channel in self._channels.values():
            await channel.close()


class Tunnel:
    """
    A listener on a unix socket, from `open()` to `close()`, which are both awaited in the portal's loop.

    Args:
        dial: Asks the lab controller for a route. It blocks, so it is called in a thread. Its argument is set when the
            tunnel is closed; it should then give up.
        router: The channels on which streams are opened.

    Attributes:
        path: The path of the unix socket, once it is open.
        last_break: When the last broken connection was closed by both sides, by `time.monotonic()`; minus infinity if
            none ever broke, infinity while one is being closed.
        last_reason: Why it broke.
    """

    def __init__(self, dial: Callable[[threading.Event], Route], router: RouterChannels) -> None:
        self._dial = dial
        self._router = router
        self._first: Route | None = None
        self.path = ""
        self._folder = ""
        self._listener: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], SocketEnd] = {}
        self._closed = threading.Event()
        self._closing: asyncio.Task[None] | None = None
        self.last_break = -math.inf
        self.last_reason = ""

    async def open(self) -> str:
        """
        Dial once, so that a refusal is raised here instead of closing the first connection, then listen.

        Returns:
            The path of the unix socket.
        """
        self._first = await _in_thread(lambda: self._dial(self._closed))
        if self._closed.is_set():
            raise ConnectionAbortedError("the tunnel was closed while it was being opened")
        self._folder = new_folder()
        self.path = str(Path(self._folder, "device"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(self.path)
        self._listener.listen()
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        return self.path

    async def close(self) -> None:
        """
        Close every connection, stop listening, and remove the socket.

        A second call waits for the first; cancelling a waiting call does not stop the closing.
        """
        if not self._closed.is_set():
            self._closed.set()
            self._stop_listening()
            for task, end in self._connections.items():
                task.cancel()
                end.close()
            self._closing = asyncio.create_task(self._wait_closed())
        if self._closing is not None:
            await asyncio.shield(self._closing)

    def _stop_listening(self) -> None:
        """Release what would be left behind if the loop ended now."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _wait_closed(self) -> None:
        if self._connections:
            await asyncio.wait(self._connections)
        await self._router.close()

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection; its socket is closed when its task ends, for whatever reason, or by `close`."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it was closed again
        end = SocketEnd(connection, frame_bytes=FRAME_BYTES)
        task = asyncio.create_task(self._serve(end))
        self._connections[task] = end
        task.add_done_callback(self._forget)  # also if the task is cancelled before its first step

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()

    async def _serve(self, end: SocketEnd) -> None:
        """Serve one connection; any error closes it, and gRPC opens a new one for the next call."""
        stream: _Stream | None = None
        try:
            stream = await self._router.stream(await self._route())
            await _both(_upstream(end, stream), _downstream(stream, end))
        except Exception as exc:
            if not self._closed.is_set():
                await self._break(end, exc, stream)

    async def _break(self, end: SocketEnd, exc: Exception, stream: _Stream | None) -> None:
        """Note a break; it lasts until gRPC has noticed it, because a call that begins before is lost too."""
        self.last_break = math.inf
        try:
            self.last_reason = await _reason(exc, stream)
            await _hang_up(end)
        finally:
            end.close()
            self.last_break = time.monotonic()

    async def _route(self) -> Route:
        """Return the route that `open` dialled the first time, then dial: a route is good for one stream."""
        first, self._first = self._first, None
        return await _in_thread(lambda: self._dial(self._closed)) if first is None else first


async def _in_thread(work: Callable[[], Route]) -> Route:
    """Do `work` in a daemon thread: unlike the loop's own threads, neither loop nor process waits for it to end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Route] = loop.create_future()

    def report(set_outcome: Callable[[], None]) -> None:
        if not done.done():  # else the waiting task was cancelled
            set_outcome()

    def run() -> None:
        try:
            outcome = partial(done.set_result, work())
        except Exception as exc:
            outcome = partial(done.set_exception, exc)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(report, outcome)

    threading.Thread(target=run, name="jumpstarter-dial", daemon=True).start()
    return await done


async def _reason(exc: BaseException, stream: _Stream | None) -> str:
    """Return why a connection broke: the first error of a group, or if the stream ended, the router's text."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    words = str(exc.details()) if isinstance(exc, grpc.aio.AioRpcError) else f"{type(exc).__name__}: {exc}"
    # InvalidStateError: a write after the end of the stream.
    if stream is not None and isinstance(exc, grpc.aio.AioRpcError | asyncio.InvalidStateError):
        with contextlib.suppress(TimeoutError):  # a write fails before the status with the reason arrives
            words = str(await asyncio.wait_for(stream.details(), _STATUS_TIMEOUT))
    return "the router ended the stream during a write" if words == _GRPC_NONSENSE else words


async def _both(*directions: Coroutine[None, None, None]) -> None:
    """Run both directions until they end; if one fails, both are cancelled."""
    async with asyncio.TaskGroup() as group:
        for direction in directions:
            group.create_task(direction)


async def _hang_up(end: SocketEnd) -> None:
    """Close the sending direction, and wait until the other side has closed the socket too."""
    with contextlib.suppress(OSError, TimeoutError):
        end.write_eof()
        async with asyncio.timeout(_HANG_UP_TIMEOUT):
            while await end.read():
                pass


async def _upstream(end: SocketEnd, stream: _Stream) -> None:
    """Copy from the socket to the router; `write` waits while the other side is slow."""
    while payload := await end.read():
        await stream.write(router_pb2.StreamRequest(payload=payload))
    await stream.write(router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY))
    await stream.done_writing()


async def _downstream(stream: _Stream, end: SocketEnd) -> None:
    """Copy from the router to the socket until a GOAWAY frame or the end of the stream."""
    while isinstance(frame := await stream.read(), router_pb2.StreamResponse):  # else it is grpc.aio.EOF
        if frame.frame_type == router_pb2.FRAME_TYPE_GOAWAY:
            break
        if frame.frame_type == router_pb2.FRAME_TYPE_DATA:
            await end.write(frame.payload)
    end.write_eof()

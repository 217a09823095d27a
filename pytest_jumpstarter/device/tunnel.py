"""
The tunnel: a unix socket here whose connections end at the exporter's gRPC server.

Each connection is one Dial and one `RouterService.Stream`; what travels inside are the bytes of an HTTP/2 connection.
Frames carry at most `FRAME_BYTES` of payload. End of input is a GOAWAY frame, then a half-closed stream.

Source: jumpstarter.v1.RouterService (router.proto), ControllerService.Dial
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from jumpstarter_protocol import router_pb2, router_pb2_grpc

from pytest_jumpstarter.device.socket_end import SocketEnd

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Route

FRAME_BYTES = 1 << 18
"""Above this a flash gets no faster: it costs memory, and CPU time as the data fall out of the cache."""

ROUTER_RESTART = 5.0
"""Seconds in which a router is tried again: one that is being started anew is not there for a moment."""

_REPEAT = 0.1
_HANG_UP_TIMEOUT = 1.0
"""Seconds for gRPC to see that a connection has ended; it takes milliseconds."""
_STATUS_TIMEOUT = 1.0
_GRPC_NONSENSE = "Internal error from Core"
"""The details of a stream whose end grpc.aio met in the middle of a write: the router's own words are lost."""


class RouterChannels:
    """The channels to routers, one for each router, shared by all streams of one tunnel."""

    def __init__(
        self,
        credentials: Callable[[str], grpc.ChannelCredentials],
        options: Callable[[str], Sequence[tuple[str, Any]]],
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def stream(self, route: Route) -> Any:
        """
        Open the stream that `route` names; its token opens nothing else.

        Raises:
            AioRpcError: The router cannot be reached for `ROUTER_RESTART`, or refuses us.
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

    def _stream(self, route: Route) -> Any:
        channel = self._channels.get(route.endpoint)
        if channel is None:
            channel = grpc.aio.secure_channel(
                route.endpoint, self._credentials(route.endpoint), options=list(self._options(route.endpoint))
            )
            self._channels[route.endpoint] = channel
        stub: Any = router_pb2_grpc.RouterServiceStub(channel)
        return stub.Stream(metadata=(("authorization", f"Bearer {route.token}"),))

    async def close(self) -> None:
        """Close every channel and so every stream."""
        for channel in self._channels.values():
            await channel.close()


class Tunnel:
    """
    A listener on a unix socket, from `open()` to `close()`, both in the portal's loop.

    Args:
        dial: Asks the lab controller for a route; blocks, so it is called in a thread. It is given what is set when
            the tunnel is closed, for it to give up.
        router: The channels on which streams are opened.

    Attributes:
        path: That of the unix socket, once it is open.
        last_break: When a connection that broke was last closed by both sides, by `time.monotonic()`; minus infinity if
            none broke, infinity while one does.
        last_reason: Why.
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
        Dial once, so that a refusal is raised here and not met as a dead socket, then listen.

        Returns:
            The path of the unix socket.
        """
        self._first = await _in_thread(lambda: self._dial(self._closed))
        if self._closed.is_set():
            raise ConnectionAbortedError("the tunnel was closed while it was being opened")
        self._folder = tempfile.mkdtemp(prefix="pj-")
        self.path = str(Path(self._folder, "device"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(self.path)
        self._listener.listen()
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)
        return self.path

    async def close(self) -> None:
        """
        End every connection, stop listening, and remove the socket.

        A second call waits for the first; cancelling one that waits does not stop the closing.
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
        """Do at once what must not be left undone if the loop ends now."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _wait_closed(self) -> None:
        if self._connections:
            await asyncio.wait(self._connections)
        await self._router.close()

    def _accept(self, listener: socket.socket) -> None:
        """Take one connection; from here on its socket is closed with its task, whatever ends that, or by `close`."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # whoever came has gone again
        end = SocketEnd(connection, frame_bytes=FRAME_BYTES)
        task = asyncio.create_task(self._carry(end))
        self._connections[task] = end
        task.add_done_callback(self._forget)  # also if it was cancelled before its first step

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()

    async def _carry(self, end: SocketEnd) -> None:
        """Carry one connection; whatever breaks it closes it, and gRPC opens the next one when there is a call."""
        stream = None
        try:
            stream = await self._router.stream(await self._route())
            await _both(_upstream(end, stream), _downstream(stream, end))
        except Exception as exc:
            if not self._closed.is_set():
                await self._break(end, exc, stream)

    async def _break(self, end: SocketEnd, exc: Exception, stream: Any) -> None:
        """Note a break, which goes on until gRPC has seen it: a call that begins before is lost with it."""
        self.last_break = math.inf
        try:
            self.last_reason = await _reason(exc, stream)
            await _hang_up(end)
        finally:
            end.close()
            self.last_break = time.monotonic()

    async def _route(self) -> Route:
        """Return the route that `open` dialled, once, for a token opens one stream; then dial."""
        first, self._first = self._first, None
        return await _in_thread(lambda: self._dial(self._closed)) if first is None else first


async def _in_thread(work: Callable[[], Route]) -> Route:
    """Do `work` in a daemon thread: unlike the loop's own threads it holds up neither the loop's end nor ours."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Route] = loop.create_future()

    def report(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not done.done():  # else whoever waited was cancelled
            set_outcome(outcome)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], object]
        try:
            outcome = done.set_result, work()
        except Exception as exc:
            outcome = done.set_exception, exc
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(report, *outcome)

    threading.Thread(target=run, name="jumpstarter-dial", daemon=True).start()
    return await done


async def _reason(exc: BaseException, stream: Any) -> str:
    """Return the words of the first error in a group; where the stream ended, the router's; it may not have begun."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    words = str(exc.details()) if isinstance(exc, grpc.aio.AioRpcError) else f"{type(exc).__name__}: {exc}"
    if stream is not None and isinstance(
        exc, (grpc.aio.AioRpcError, asyncio.InvalidStateError)
    ):  # the latter: a write after the end
        with contextlib.suppress(TimeoutError):  # a write that fails comes before the status that says why
            words = str(await asyncio.wait_for(stream.details(), _STATUS_TIMEOUT))
    return "the router's stream ended while something was sent" if words == _GRPC_NONSENSE else words


async def _both(*directions: Awaitable[None]) -> None:
    """Run both directions to their ends; the first failure ends both."""
    async with asyncio.TaskGroup() as group:
        for direction in directions:
            group.create_task(direction)  # type: ignore[arg-type]  # both are coroutines


async def _hang_up(end: SocketEnd) -> None:
    """Say that nothing more will come, and wait until the other side has closed the socket too."""
    with contextlib.suppress(OSError, TimeoutError):
        end.write_eof()
        async with asyncio.timeout(_HANG_UP_TIMEOUT):
            while await end.read():
                pass


async def _upstream(end: SocketEnd, stream: Any) -> None:
    """Copy from the socket to the router; `write` waits while the other side is slow."""
    while payload := await end.read():
        await stream.write(router_pb2.StreamRequest(payload=payload))
    await stream.write(router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY))
    await stream.done_writing()


async def _downstream(stream: Any, end: SocketEnd) -> None:
    """Copy from the router to the socket until GOAWAY or the end of the stream."""
    while (frame := await stream.read()) is not grpc.aio.EOF:
        if frame.frame_type == router_pb2.FRAME_TYPE_GOAWAY:
            break
        if frame.frame_type == router_pb2.FRAME_TYPE_DATA:
            await end.write(frame.payload)
    end.write_eof()

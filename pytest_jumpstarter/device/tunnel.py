"""
The tunnel: a unix socket on this machine whose connections end at the exporter's gRPC server.

Each connection is one Dial and one `RouterService.Stream`, which carries the bytes of an HTTP/2 connection. Where the
router cannot be reached, each try has a Dial of its own: the exporter gives up on a route that it could not follow.

Source: jumpstarter.v1.RouterService (router.proto), ControllerService.Dial
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from jumpstarter_protocol import router_pb2_grpc

from pytest_jumpstarter.client.v1.failures import find_failure
from pytest_jumpstarter.client.v1.tls import UNTRUSTED
from pytest_jumpstarter.device.relay import FRAME_BYTES, Relay
from pytest_jumpstarter.device.socket_end import SocketEnd, new_folder
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Route
    from pytest_jumpstarter.device.relay import Stream

ROUTER_PATIENCE = 20.0
"""Seconds for which an unreachable router is tried again: it may be restarting."""

LOGGER = "jumpstarter.connection"
"""The logger of broken connections."""

_REDIAL = 1.0
"""Seconds from one try to the next."""
_HANG_UP_TIMEOUT = 1.0
"""Seconds to wait until gRPC has noticed the end of a connection, which normally takes milliseconds."""
_STATUS_TIMEOUT = 1.0
_GRPC_NONSENSE = "Internal error from Core"
"""The details that grpc.aio reports if a stream ends during a write; the router's own text is lost."""


class RouterUnreachable(ConnectionError):
    """
    The router that a route leads through cannot be reached; the message names it.

    Attributes:
        is_setup: Whether its address or certificates are wrong, so that another attempt would not help.
    """

    def __init__(self, message: str, *, is_setup: bool = False) -> None:
        super().__init__(message)
        self.is_setup = is_setup


class StreamBroken(ConnectionError):
    """
    A stream through a router broke.

    Attributes:
        stream: The stream, which knows more once its status has come.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream


class RouterChannels:
    """The channels to routers, one for each router; all streams of a tunnel share them."""

    def __init__(
        self,
        credentials: Callable[[str], grpc.ChannelCredentials],
        options: Callable[[str], Sequence[tuple[str, str | int]]],
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._former: list[grpc.aio.Channel] = []

    def stream(self, route: Route) -> Stream:
        """
        Return the stream of `route`, which connects by itself; a route is good for one stream.

        Raises:
            RouterUnreachable: The endpoint of the route is not valid.
        """
        channel = self._channels.get(route.endpoint)
        if channel is None:
            try:
                credentials = self._credentials(route.endpoint)
                options = list(self._options(route.endpoint))
            except Exception as exc:
                raise RouterUnreachable(
                    f"the router {route.endpoint!r} cannot be reached: {exc}", is_setup=True
                ) from exc
            channel = grpc.aio.secure_channel(route.endpoint, credentials, options=options)
            self._channels[route.endpoint] = channel
        stub = router_pb2_grpc.RouterServiceStub(channel)
        return stub.Stream(metadata=(("authorization", f"Bearer {route.token}"),))

    def forget(self, endpoint: str) -> None:
        """Use another channel for later streams: the router has a new certificate, which insecure TLS trusts too."""
        if (channel := self._channels.pop(endpoint, None)) is not None:
            self._former.append(channel)

    async def close(self) -> None:
        """Close every channel, and with it every stream."""
        for channel in (*self._channels.values(), *self._former):
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
        router_trouble: Why the router cannot be reached at present; empty if it can, or if nobody tried.
        heard: When something came from the exporter last, by `time.monotonic()`; minus infinity if nothing ever did.
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
        self.router_trouble = ""
        self.heard = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return not self._closed.is_set()

    async def open(self, *, is_dialed: bool = True) -> str:
        """
        Dial once, so that a refusal is raised here instead of closing the first connection, then listen.

        Args:
            is_dialed: False if nobody may connect for a long time: a route is not kept so long.

        Returns:
            The path of the unix socket.
        """
        if is_dialed:
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
        relay = Relay(end, self._hear)
        try:
            await self._carry(relay)
        except Exception as exc:
            if not self._closed.is_set():
                await self._break(end, exc)

    async def _carry(self, relay: Relay) -> None:
        """Copy through a route; through a new one as long as no router can be reached."""
        deadline = real_time.monotonic() + ROUTER_PATIENCE
        while True:
            again = real_time.monotonic() + _REDIAL
            try:
                await self._follow(await self._route(), relay, deadline)
            except RouterUnreachable as exc:
                self.router_trouble = str(exc)
                was_reached = self.heard > -math.inf
                if not relay.can_start_over or again > deadline or (exc.is_setup and not was_reached):
                    raise
                await asyncio.sleep(again - real_time.monotonic())
            else:
                return

    async def _follow(self, route: Route, relay: Relay, deadline: float) -> None:
        """
        Copy through one route until it ends.

        Raises:
            RouterUnreachable: Its router cannot be reached, or ends the stream before anything came.
            StreamBroken: The connection broke.
        """
        stream, router = self._router.stream(route), f"the router {route.endpoint}"
        try:
            await self._until_connected(stream, router, deadline)
            await relay.run(stream)
        except (grpc.aio.AioRpcError, BaseExceptionGroup) as exc:
            if relay.can_start_over and await _is_away(stream):
                words = await _words(exc, stream)
                if UNTRUSTED in words:
                    self._router.forget(route.endpoint)
                raise RouterUnreachable(f"{router} cannot be reached: {words}", is_setup=_is_setup(words)) from exc
            self.router_trouble = ""
            raise StreamBroken(stream) from exc

    async def _until_connected(self, stream: Stream, router: str, deadline: float) -> None:
        """Wait for the router; while it does not answer, `router_trouble` says so."""
        is_first = not self.router_trouble
        if is_first:
            self.router_trouble = f"{router} does not answer"
        try:
            async with asyncio.timeout(deadline - real_time.monotonic()):
                await stream.wait_for_connection()
        except TimeoutError as exc:
            stream.cancel()
            raise RouterUnreachable(f"{router} does not answer within {ROUTER_PATIENCE:g}s") from exc
        if is_first:
            self.router_trouble = ""

    def _hear(self) -> None:
        self.heard = real_time.monotonic()
        self.router_trouble = ""

    async def _break(self, end: SocketEnd, exc: Exception) -> None:
        """Record a break; it lasts until gRPC has noticed it, because a call that begins before is lost too."""
        self.last_break = math.inf
        try:
            self.last_reason = await _reason(exc)
            await _hang_up(end)
        finally:
            end.close()
            self.last_break = real_time.monotonic()
        logging.getLogger(LOGGER).info(
            "a connection to the exporter broke: %s; the next call opens one", self.last_reason
        )

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


def _is_setup(words: str) -> bool:
    """Return whether gRPC's words for an unreachable router mean that its address or certificates are wrong."""
    return find_failure(grpc.StatusCode.UNAVAILABLE, words).finality in ("setup", "final")


async def _is_away(stream: Stream) -> bool:
    """Return whether a stream ended because the router could not be reached, or gRPC lost why: a write had failed."""
    with contextlib.suppress(TimeoutError):
        code = await asyncio.wait_for(stream.code(), _STATUS_TIMEOUT)
        return code is grpc.StatusCode.UNAVAILABLE or await stream.details() == _GRPC_NONSENSE
    return False


async def _reason(exc: Exception) -> str:
    """Return why a connection broke."""
    if isinstance(exc, StreamBroken) and exc.__cause__ is not None:
        return await _words(exc.__cause__, exc.stream)
    return str(exc) if isinstance(exc, RouterUnreachable) else f"{type(exc).__name__}: {exc}"


async def _words(exc: BaseException, stream: Stream) -> str:
    """Return the words of the first error of a group, or if the stream ended, the router's."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    words = str(exc.details()) if isinstance(exc, grpc.aio.AioRpcError) else f"{type(exc).__name__}: {exc}"
    # InvalidStateError: a write after the end of the stream.
    if isinstance(exc, grpc.aio.AioRpcError | asyncio.InvalidStateError):
        with contextlib.suppress(TimeoutError):  # a write fails before the status with the reason arrives
            words = str(await asyncio.wait_for(stream.details(), _STATUS_TIMEOUT))
    return "the router ended the stream during a write" if words == _GRPC_NONSENSE else words


async def _hang_up(end: SocketEnd) -> None:
    """Close the sending direction, and wait until the other side has closed the socket too."""
    with contextlib.suppress(OSError, TimeoutError):
        end.write_eof()
        async with asyncio.timeout(_HANG_UP_TIMEOUT):
            while await end.read():
                pass

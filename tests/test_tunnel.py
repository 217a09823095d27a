"""The tunnel's own life: what it leaves behind, and whom it keeps waiting, however it ends."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from jumpstarter_protocol import router_pb2

from pytest_jumpstarter.client.v1 import Route
from pytest_jumpstarter.device import tunnel as tunnel_module
from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel
from pytest_jumpstarter.errors import DeviceUnreachable

PATIENCE = 30.0


def to_nowhere(endpoint: str = "127.0.0.1:1") -> Route:
    """Return a route to a router that does not exist."""
    return Route(endpoint=endpoint, token="none")


class Dial:
    """Finds a route once; after that it goes on trying until it is stopped."""

    def __init__(self) -> None:
        self.is_trying = threading.Event()
        self.has_given_up = threading.Event()
        self.has_ended = threading.Event()
        self._count = 0

    def __call__(self, stopped: threading.Event) -> Route:
        """Return a route the first time."""
        self._count += 1
        if self._count == 1:
            return to_nowhere()
        self.is_trying.set()
        if stopped.wait(PATIENCE):
            self.has_given_up.set()
        self.has_ended.set()
        raise DeviceUnreachable("nobody is there")


def new_tunnel(dial: Dial) -> Tunnel:
    """Return a tunnel whose streams never come about."""
    return Tunnel(dial, RouterChannels(lambda _: grpc.ssl_channel_credentials(), lambda _: ()))


async def connect_until_dialling(path: str, dial: Dial) -> list[asyncio.StreamWriter]:
    """Use up the first route, then make the tunnel dial for another; return what keeps the connections open."""
    writers = [(await asyncio.open_unix_connection(path))[1] for _ in range(2)]
    assert await asyncio.to_thread(dial.is_trying.wait, PATIENCE)
    return writers


def test_closed_while_dialling() -> None:
    """A tunnel that is closed while it dials lets the dial go, and its socket is gone."""
    dial = Dial()

    async def scenario() -> Path:
        tunnel = new_tunnel(dial)
        path = await tunnel.open()
        writers = await connect_until_dialling(path, dial)
        await tunnel.close()
        for writer in writers:
            writer.close()
        return Path(path)

    path = asyncio.run(scenario())
    assert dial.has_given_up.wait(PATIENCE)
    assert not path.parent.exists()


def test_loop_ends_while_dialling() -> None:
    """A loop that ends in the middle of a dial does not wait for it."""
    dial = Dial()
    tunnel = new_tunnel(dial)

    async def scenario() -> Path:
        path = await tunnel.open()
        for writer in await connect_until_dialling(path, dial):
            writer.close()
        return Path(path)

    path = asyncio.run(scenario())
    assert not dial.has_ended.is_set()
    asyncio.run(tunnel.close())  # any loop will do for what the one that ended left behind
    assert not path.parent.exists()


def test_close_that_is_cancelled() -> None:
    """A close that is cancelled halfway leaves no socket behind."""
    dial = Dial()

    async def scenario() -> Path:
        tunnel = new_tunnel(dial)
        path = await tunnel.open()
        writers = await connect_until_dialling(path, dial)
        closing = asyncio.create_task(tunnel.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        for writer in writers:
            writer.close()
        return Path(path)

    assert not asyncio.run(scenario()).parent.exists()


def test_closed_at_the_first_step() -> None:
    """Closing takes no second step of the loop, which may not come, to close what was accepted."""
    dial = Dial()

    async def scenario() -> None:
        tunnel = new_tunnel(dial)
        path = await tunnel.open()
        writers = await connect_until_dialling(path, dial)
        closing = asyncio.create_task(tunnel.close())
        await asyncio.sleep(0)
        for writer in writers:
            with writer.get_extra_info("socket").dup() as peer:
                assert peer.recv(1) == b""  # the end of input; of a socket that is still open nothing could be read
            writer.close()
        await closing

    asyncio.run(scenario())


TRANSFER_BYTES = 32 << 20
IN_FLIGHT_BYTES = 2 << 20
"""More than sockets, gRPC's windows and two frames hold, and much less than is sent."""

FIXED_WINDOW = (("grpc.http2.bdp_probe", 0),)
"""Else gRPC measures what the network bears, and lets more be sent ahead the slower the machine is."""

STUCK = 0.3
Handler = Callable[[object, Any], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler, *, late: bool = False) -> AsyncIterator[socket.socket]:
    """Serve a router whose streams `handler` gets, at first or late, and yield a connection through a tunnel to it."""
    method = grpc.stream_stream_rpc_method_handler(
        handler,
        request_deserializer=router_pb2.StreamRequest.FromString,
        response_serializer=router_pb2.StreamResponse.SerializeToString,
    )
    server = grpc.aio.server(options=FIXED_WINDOW)
    service = grpc.method_handlers_generic_handler("jumpstarter.v1.RouterService", {"Stream": method})
    server.add_generic_rpc_handlers((service,))
    held, endpoint = held_endpoint()
    router = RouterChannels(lambda _: grpc.local_channel_credentials(), lambda _: FIXED_WINDOW)
    tunnel = Tunnel(lambda _: to_nowhere(endpoint), router)
    path = await tunnel.open()
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, path)
    if late:
        await until_refused(router, endpoint)
    assert server.add_secure_port(endpoint, grpc.local_server_credentials())
    await server.start()
    try:
        with held, connection:
            yield connection
    finally:
        await tunnel.close()
        await server.stop(grace=None)


def held_endpoint() -> tuple[socket.socket, str]:
    """Return an endpoint where nobody listens, and what keeps it from others until a server of ours does."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # gRPC's servers share a port
    held.bind(("127.0.0.1", 0))
    return held, f"127.0.0.1:{held.getsockname()[1]}"


async def until_refused(router: RouterChannels, endpoint: str) -> None:
    """Wait until the router was found not to be there."""
    deadline = time.monotonic() + PATIENCE
    while endpoint not in router._channels or (
        router._channels[endpoint].get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def count_until_stuck(send_one: Callable[[], Coroutine[Any, Any, int]]) -> tuple[int, asyncio.Task[int]]:
    """Return how many bytes can be sent until one more waits, and what waits; all there are if nothing does."""
    count = 0
    while True:
        sending = asyncio.create_task(send_one())
        await asyncio.wait([sending], timeout=STUCK)
        if not sending.done() or count >= TRANSFER_BYTES:
            return count, sending
        count += sending.result()


def test_slow_router() -> None:
    """A router that does not read holds back who sends; then all comes in order, and the other direction stays open."""
    data = bytes(range(256)) * (TRANSFER_BYTES // 256)
    go = asyncio.Event()
    received, kinds = hashlib.sha256(), []

    async def router(_requests: object, context: Any) -> None:
        await go.wait()
        while (frame := await context.read()) is not grpc.aio.EOF:
            kinds.append(frame.frame_type)
            received.update(frame.payload)
        await context.write(router_pb2.StreamResponse(payload=b"all of it"))
        await context.write(router_pb2.StreamResponse(frame_type=router_pb2.FRAME_TYPE_GOAWAY))

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        async with served(router) as connection:
            left = memoryview(data)

            async def send_one() -> int:
                nonlocal left
                block, left = left[: 1 << 16], left[1 << 16 :]
                await loop.sock_sendall(connection, block)
                return len(block)

            ahead, sending = await count_until_stuck(send_one)
            go.set()
            await sending
            await loop.sock_sendall(connection, left)
            connection.shutdown(socket.SHUT_WR)
            answer = [await asyncio.wait_for(loop.sock_recv(connection, 100), PATIENCE) for _ in range(2)]
            assert answer == [b"all of it", b""]
        return ahead

    assert asyncio.run(scenario()) < IN_FLIGHT_BYTES
    assert received.digest() == hashlib.sha256(data).digest()
    assert kinds.index(router_pb2.FRAME_TYPE_GOAWAY) == len(kinds) - 1


def test_slow_reader() -> None:
    """A connection that nobody reads holds back the router; where the router has ended, we may still send."""
    block = bytes(1 << 16)
    sent, replied = asyncio.Event(), asyncio.Event()
    count, reply = 0, b""

    async def router(_requests: object, context: Any) -> None:
        nonlocal count, reply

        async def send_one() -> int:
            await context.write(router_pb2.StreamResponse(payload=block))
            return len(block)

        count, sending = await count_until_stuck(send_one)
        sent.set()
        await sending
        await context.write(router_pb2.StreamResponse(frame_type=router_pb2.FRAME_TYPE_GOAWAY))
        reply = (await context.read()).payload
        replied.set()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with served(router) as connection:
            await sent.wait()
            left = count + len(block)
            while left:
                left -= len(await asyncio.wait_for(loop.sock_recv(connection, left), PATIENCE))
            assert await asyncio.wait_for(loop.sock_recv(connection, 1), PATIENCE) == b""
            await loop.sock_sendall(connection, b"thanks")
            await asyncio.wait_for(replied.wait(), PATIENCE)

    asyncio.run(scenario())
    assert 0 < count < IN_FLIGHT_BYTES
    assert reply == b"thanks"


def test_router_that_is_back() -> None:
    """A router that is just being started again gets what was to be sent, and nobody hears of it."""

    async def router(_requests: object, context: Any) -> None:
        await context.write(router_pb2.StreamResponse(payload=(await context.read()).payload.upper()))

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        async with served(router, late=True) as connection:
            await loop.sock_sendall(connection, b"hello")
            return await asyncio.wait_for(loop.sock_recv(connection, 100), PATIENCE)

    assert asyncio.run(scenario()) == b"HELLO"


def test_call_that_begins_during_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """A break goes on until both sides have closed, so that a call which begins in the middle has it to blame."""
    monkeypatch.setattr(tunnel_module, "ROUTER_PATIENCE", 0.0)
    held, endpoint = held_endpoint()

    async def scenario() -> None:
        is_asked, answer = asyncio.Event(), asyncio.Event()

        async def reason(*_: object) -> str:
            is_asked.set()
            await answer.wait()
            return "cut"

        monkeypatch.setattr(tunnel_module, "_reason", reason)
        tunnel = Tunnel(
            lambda _: to_nowhere(endpoint), RouterChannels(lambda _: grpc.local_channel_credentials(), lambda _: ())
        )
        reader, writer = await asyncio.open_unix_connection(await tunnel.open())
        await asyncio.wait_for(is_asked.wait(), PATIENCE)
        began = time.monotonic()
        assert tunnel.last_break > began
        answer.set()
        writer.write(b"a call that begins now")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert tunnel.last_break == math.inf
        writer.close()
        async with asyncio.timeout(PATIENCE):
            while tunnel.last_break == math.inf:
                await asyncio.sleep(0.01)
        assert began < tunnel.last_break < time.monotonic()
        assert tunnel.last_reason == "cut"
        await tunnel.close()

    with held:
        asyncio.run(scenario())


def test_router_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that does not come back in time ends the connection, and what was wrong with it is known."""
    monkeypatch.setattr(tunnel_module, "ROUTER_PATIENCE", 1.5)
    held, endpoint = held_endpoint()

    async def scenario() -> Tunnel:
        tunnel = Tunnel(
            lambda _: to_nowhere(endpoint), RouterChannels(lambda _: grpc.local_channel_credentials(), lambda _: ())
        )
        reader, writer = await asyncio.open_unix_connection(await tunnel.open())
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
        await tunnel.close()
        return tunnel

    with held:
        tunnel = asyncio.run(scenario())
    assert math.isfinite(tunnel.last_break)
    assert tunnel.last_reason == tunnel.router_trouble
    assert tunnel.last_reason.startswith(f"the router {endpoint} cannot be reached: ")
    assert "Connection refused" in tunnel.last_reason

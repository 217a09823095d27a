"""The tunnel's own life: what it leaves behind, and whom it keeps waiting, however it ends."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from pytest_jumpstarter.device.tunnel import Route, Router, Tunnel
from pytest_jumpstarter.errors import DeviceUnreachable

PATIENCE = 30.0


@dataclass(frozen=True)
class ToNowhere:
    """A route to a router that does not exist."""

    endpoint: str = "127.0.0.1:1"
    token: str = "none"


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
            return ToNowhere()
        self.is_trying.set()
        if stopped.wait(PATIENCE):
            self.has_given_up.set()
        self.has_ended.set()
        raise DeviceUnreachable("nobody is there")


def new_tunnel(dial: Dial) -> Tunnel:
    """Return a tunnel whose streams never come about."""
    return Tunnel(dial, Router(lambda _: grpc.ssl_channel_credentials(), lambda _: ()))


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

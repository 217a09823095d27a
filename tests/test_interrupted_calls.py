"""Calls that a signal handler interrupts: gRPC may keep a lock then, so later calls use another channel."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from anyio import create_task_group
from anyio.from_thread import start_blocking_portal
from faulty import FaultyLab
from test_calls import Method

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device import blocking_calls
from pytest_jumpstarter.device.blocking_calls import DriverPortal
from pytest_jumpstarter.jumpstarter_private import DriverInvalidArgument


class Interrupted(Exception):
    """What the signal handler raises."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread a moment after the start of the block."""

    def raise_it(*_: object) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGALRM, raise_it)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_request(boards: FaultyLab) -> None:
    """After an interrupted request, the client uses another channel, and never closes the interrupted one."""
    with Client.from_config(boards.config) as client:
        assert client.get_exporter("board-1").name == "board-1"
        before = client._connection._channel
        boards.order("silence GetExporter times 1")
        with pytest.raises(Interrupted), interruptible():
            client.get_exporter("board-1", timeout=30)
        assert client._connection._channel is None
        assert client.get_exporter("board-1").name == "board-1"
        assert client._connection._interrupted == [before]


def test_request_of_another_thread(boards: FaultyLab) -> None:
    """After `renew_connection`, requests use another channel."""
    with Client.from_config(boards.config) as client:
        assert client.get_exporter("board-1").name == "board-1"
        before = client._connection._channel
        releasing = threading.Thread(target=client.renew_connection)
        releasing.start()
        releasing.join()
        assert client.get_exporter("board-1").name == "board-1"
        assert client._connection._channel is not before


def test_driver_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interrupted driver call, later calls use another channel."""
    monkeypatch.setattr(blocking_calls, "_CALL", Method.call_async)
    opened = []

    def new_channel() -> grpc.Channel:
        opened.append(grpc.insecure_channel(f"127.0.0.1:{server.getsockname()[1]}"))
        return opened[-1]

    with socket.create_server(("127.0.0.1", 0)) as server, start_blocking_portal() as loop:  # it says nothing
        portal = DriverPortal(loop, new_channel)
        with pytest.raises(Interrupted), interruptible():
            portal.call(Method().call_async, "on")
        assert len(opened) == 2
        portal.close_channel()
    opened[0].close()


@asynccontextmanager
async def stream() -> AsyncIterator[None]:
    """Wrap what is raised in a group, as the streams of driver clients do."""
    async with create_task_group():
        yield


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), Interrupted(), ValueError("of the test")], ids=repr
)
def test_stream(error: BaseException) -> None:
    """What ends the block of a stream is raised alone, not in a group, and the event loop goes on."""
    with start_blocking_portal() as loop:
        portal = DriverPortal(loop, lambda: grpc.insecure_channel("127.0.0.1:1"))
        with pytest.raises(type(error)) as caught, portal.wrap_async_context_manager(stream()):
            raise error
        assert caught.value is error
        assert loop.call(lambda: "alive") == "alive"


def test_stream_that_fails() -> None:
    """A driver's error stays in the group in which Jumpstarter raises it."""
    with start_blocking_portal() as loop:
        portal = DriverPortal(loop, lambda: grpc.insecure_channel("127.0.0.1:1"))
        with pytest.raises(ExceptionGroup), portal.wrap_async_context_manager(stream()):
            raise DriverInvalidArgument("no such target")

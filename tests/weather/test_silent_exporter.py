"""An exporter that connects and then says nothing: a device error within a bound, wherever it falls silent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from anyio.from_thread import start_blocking_portal
from drivers_for_faults import Flooding, Stuck
from jumpstarter_driver_composite.driver import Composite
from standalone import serving_drivers

from pytest_jumpstarter.device import exporter_connection, shared_port
from pytest_jumpstarter.device.channel_target import ChannelTarget
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, TlsAdvice
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import DeviceUnreachable

SERVICE = "jumpstarter.v1.ExporterService"


class Silence(grpc.GenericRpcHandler):
    """Takes every call and answers none."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return a handler that never answers."""

        async def answer(_request: Any, _context: Any) -> bytes:
            await asyncio.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """Serve an exporter that takes every call and answers none; return where."""

    async def serve(is_up: Future[str], over: Future[None]) -> None:
        server = grpc.aio.server(handlers=[Silence()])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        is_up.set_result(f"127.0.0.1:{port}")
        await asyncio.wrap_future(over)
        await server.stop(grace=None)

    is_up: Future[str] = Future()
    over: Future[None] = Future()
    with start_blocking_portal() as loop:
        served = loop.start_task_soon(serve, is_up, over)
        yield is_up.result(10)
        over.set_result(None)
        served.result(10)


def calls() -> int:
    """Return the number of calls of `grpc.aio` that exist."""
    return sum(isinstance(each, grpc.aio.UnaryUnaryCall) for each in gc.get_objects())


def test_nothing_goes_on(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a connection that failed, no call is kept: gRPC would go on to connect for it, and write to stderr."""
    monkeypatch.setattr(exporter_connection, "CONNECT_TIMEOUT", 0.5)
    portal = Portal()
    connection = ExporterConnection(portal, DriverPolicy(allow=(), unsafe=True, source="the test"))
    gc.collect()
    before = calls()
    gc.disable()
    target = ChannelTarget(address=silent, credentials=None, options=())
    try:
        with pytest.raises(DeviceUnreachable):
            connection.open_channel(target, exporter="the exporter", advice=TlsAdvice("", ""))
        assert calls() == before
    finally:
        gc.enable()
        connection.close()
        portal.stop()


def test_report(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that does not tell its drivers does not answer, and that is what is said."""
    monkeypatch.setattr(exporter_connection, "CONNECT_TIMEOUT", 1.0)
    portal = Portal()
    connection = ExporterConnection(portal, DriverPolicy(allow=(), unsafe=True, source="the test"))
    target = ChannelTarget(address=silent, credentials=None, options=())
    try:
        with pytest.raises(DeviceUnreachable, match=r"^the exporter does not answer within 1s$"):
            connection.open_channel(target, exporter="the exporter", advice=TlsAdvice("", ""))
    finally:
        connection.close()
        portal.stop()


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve two consoles, as in a `jmp shell`: one does not open, the other's board never stops printing."""
    board = cast(Any, Composite)(children={"stuck": cast(Any, Stuck)(), "flooding": cast(Any, Flooding)()})
    with serving_drivers(board) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        yield


@pytest.mark.usefixtures("ports")
def test_console_that_does_not_open(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console whose driver never opens it is a device error that names it; the other one works."""
    monkeypatch.setattr(shared_port, "OPEN_TIMEOUT", 1.0)
    pytester.makepyfile(
        """
        def test_stuck(dut): dut.console("stuck")
        def test_again(dut): dut.console("stuck")
        def test_other(dut): dut.console("flooding").expect("another line")
        """
    )
    result = pytester.runpytest()
    assert result.ret == 8
    result.stdout.fnmatch_lines(
        ["*console stuck of dut* cannot be opened: no answer within 1s", "*= 1 passed, 2 device error in *"]
    )


@pytest.mark.usefixtures("ports")
def test_discard_while_a_board_floods(pytester: pytest.Pytester) -> None:
    """What a board prints without end is dropped for a second, not for ever."""
    pytester.makepyfile(
        """
        import time
        def test_it(dut):
            console = dut.console("flooding")
            console.expect("another line")
            began = time.monotonic()
            assert "another line" in console.discard()
            assert time.monotonic() - began < 2
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)

"""An exporter that connects and then says nothing: a device error within a bound, wherever it falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import pytest
from anyio.from_thread import start_blocking_portal

from pytest_jumpstarter.device import exporter_connection
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


def test_report(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that does not tell its drivers does not answer, and that is what is said."""
    monkeypatch.setattr(exporter_connection, "CONNECT_TIMEOUT", 1.0)
    portal = Portal()
    connection = ExporterConnection(portal, DriverPolicy(allow=(), unsafe=True, source="the test"))
    try:
        with pytest.raises(DeviceUnreachable, match=r"^the exporter does not answer within 1s$"):
            connection.open_channel(
                lambda: grpc.aio.insecure_channel(silent), exporter="the exporter", advice=TlsAdvice("", "")
            )
    finally:
        connection.close()
        portal.stop()

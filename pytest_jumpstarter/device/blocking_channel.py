"""
Questions to an exporter over a blocking channel, and the errors of such a channel.

Source: jumpstarter.v1.ExporterService GetReport
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from jumpstarter_protocol import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.call_window import was_never_sent
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from jumpstarter_protocol import jumpstarter_pb2

_READY_CHECK = 0.5


async def get_report(channel: grpc.Channel, timeout: float) -> jumpstarter_pb2.GetReportResponse:
    """
    Ask an exporter for its drivers over a blocking channel, and wait in the loop.

    Raises:
        grpc.aio.AioRpcError: It does not answer within `timeout` seconds, or refuses.
    """
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(answered.set)

    call: Any = jumpstarter_pb2_grpc.ExporterServiceStub(channel).GetReport.future(empty_pb2.Empty(), timeout=timeout)
    call.add_done_callback(wake)
    try:
        await answered.wait()
    finally:
        call.cancel()  # unless it is done
    if call.code() is not grpc.StatusCode.OK:
        raise aio_error(call)
    response: jumpstarter_pb2.GetReportResponse = call.result()
    return response


def ping(channel: grpc.Channel, timeout: float) -> bool:
    """Return whether an exporter answers anything within `timeout` seconds."""
    stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
    try:
        stub.GetReport(empty_pb2.Empty(), wait_for_ready=True, timeout=timeout)
    except grpc.RpcError as exc:
        code = cast("grpc.Call", exc).code()
        return code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    return True


def until_ready(stub: jumpstarter_pb2_grpc.ExporterServiceStub, is_open: Callable[[], bool], deadline: float) -> bool:
    """Wait until the exporter is connected, by a call that does nothing; return whether it is by `deadline`."""
    while is_open() and real_time.monotonic() < deadline:
        try:
            stub.GetReport(empty_pb2.Empty(), wait_for_ready=True, timeout=_READY_CHECK)
        except grpc.RpcError as exc:
            error = aio_error(exc)
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED and not was_never_sent(error):
                return True  # any answer shows that it is connected
        else:
            return True
    return False


def aio_error(exc: grpc.RpcError) -> grpc.aio.AioRpcError:
    """Return the error that grpc.aio would have raised."""
    call = cast("grpc.Call", exc)  # a channel raises the call itself as the error
    metadata = [grpc.aio.Metadata(*(pairs or ())) for pairs in (call.initial_metadata(), call.trailing_metadata())]
    debug: Callable[[], str | None] = getattr(exc, "debug_error_string", lambda: None)
    return grpc.aio.AioRpcError(call.code(), metadata[0], metadata[1], call.details(), debug())

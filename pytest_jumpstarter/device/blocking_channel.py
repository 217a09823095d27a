"""
Questions to an exporter over a blocking channel, and the errors of such a channel.

Source: jumpstarter.v1.ExporterService GetReport
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from jumpstarter_protocol import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.call_window import was_never_sent
from pytest_jumpstarter.host import real_time

_READY_CHECK = 0.5


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

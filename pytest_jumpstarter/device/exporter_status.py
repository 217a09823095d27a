"""The status of an exporter, from the exporter itself: of use where no lab controller knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import grpc


T = TypeVar("T")


class ExporterStatus(NamedTuple):
    """
    The status of an exporter.

    Attributes:
        status: Its name, such as LEASE_READY; UNSPECIFIED if the exporter is older than 0.8, or newer than the stubs.
        message: What the exporter says of it.
        previous: The name of the status before; empty if there was none.
    """

    status: str
    message: str = ""
    previous: str = ""


class UnreadableAnswer(Exception):
    """An answer of an exporter is no message of its kind."""


def readable(answer: T | None) -> T:
    """
    Return an answer, unless there is none: `grpc.aio` returns None for what cannot be read, and logs why.

    Raises:
        UnreadableAnswer: It cannot be read.
    """
    if answer is None:
        raise UnreadableAnswer("its answer cannot be read")
    return answer


async def get_status(channel: grpc.aio.Channel, timeout: float) -> ExporterStatus:
    """
    Ask an exporter for its status.

    Raises:
        grpc.aio.AioRpcError: It does not answer.
        UnreadableAnswer: It answers something else.
    Source: jumpstarter.v1.ExporterService GetStatus
    """
    import grpc
    from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc

    try:
        response = await jumpstarter_pb2_grpc.ExporterServiceStub(channel).GetStatus(
            jumpstarter_pb2.GetStatusRequest(), timeout=timeout
        )
    except grpc.aio.AioRpcError as exc:
        if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ExporterStatus("UNSPECIFIED")
        raise
    response = readable(response)
    previous = _name(response.previous_status) if response.HasField("previous_status") else ""
    return ExporterStatus(_name(response.status), response.message, previous)


def _name(number: int) -> str:
    from jumpstarter_protocol import jumpstarter_pb2

    from pytest_jumpstarter.client.v1.facts import value_names

    names = value_names(jumpstarter_pb2.GetStatusResponse, "status", prefix="EXPORTER_STATUS_")
    return names.get(number, "UNSPECIFIED")

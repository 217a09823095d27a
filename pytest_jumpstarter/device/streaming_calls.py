"""
Streams of driver calls end when nobody reads them any more.

A test may stop to read a stream: `for reading in dut.power.read(): break`. Jumpstarter's driver client drops its call
then, and gRPC keeps it, with its memory, as long as the exporter goes on, which is often to the end of the connection.

Source: jumpstarter.v1.ExporterService StreamingDriverCall
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

_Grpc: TypeAlias = Any
"""A stub or a call of gRPC, or an answer: its type depends on the service."""


def end_unread_streams(driver: DriverClient) -> None:
    """Let the streams of a driver client end with whoever reads them."""
    if not isinstance(driver.stub, _Stub):
        driver.stub = _Stub(driver.stub)


class _Stub:
    """Jumpstarter's stub, whose streaming calls are cancelled when they are dropped."""

    def __init__(self, stub: _Grpc) -> None:
        self._stub = stub

    def StreamingDriverCall(self, *args: _Grpc, **kwargs: _Grpc) -> _Stream:  # noqa: N802  (the method's name)
        """Begin a call."""
        return _Stream(self._stub.StreamingDriverCall(*args, **kwargs))

    def __getattr__(self, name: str) -> _Grpc:
        return getattr(self._stub, name)


class _Stream:
    """A streaming call; its iterator ends it."""

    def __init__(self, call: _Grpc) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[_Grpc]:
        """Yield the answers; the loop closes this when nobody has it any more."""
        try:
            async for answer in self._call:
                yield answer
        finally:
            self._call.cancel()  # which does nothing where it has ended

    def __getattr__(self, name: str) -> _Grpc:
        return getattr(self._call, name)

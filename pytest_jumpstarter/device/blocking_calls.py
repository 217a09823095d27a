"""
Plain driver calls, made in the thread that waits for their result.

Jumpstarter's driver clients hand each call to the event loop in another thread and wait for its result. A call with one
answer needs no loop: here it is sent with gRPC's blocking API, over a channel of its own through the same tunnel. The
round trip is a fifth shorter. Streams, and everything else that a driver client does, stay in the loop.

Source: jumpstarter.v1.ExporterService DriverCall
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import MethodType
from typing import TYPE_CHECKING, NoReturn, cast

import grpc
import grpc.aio
from jumpstarter.client.core import AsyncDriverClient
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.portal import LoopNeeded, run_here

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import DriverCallRequest, DriverCallResponse


class BlockingCallPortal:
    """
    Stands in for the portal of driver clients: plain driver calls block in the caller's thread, the rest uses the loop.

    Args:
        portal: The portal to the loop.
        channel: A channel to the exporter; it may connect when the first call is made.
    """

    def __init__(self, portal: BlockingPortal, channel: grpc.Channel) -> None:
        self._portal = portal
        self._loop_thread = portal.call(threading.get_ident)
        self._driver_call: Callable[[DriverCallRequest], DriverCallResponse]
        self._driver_call = jumpstarter_pb2_grpc.ExporterServiceStub(channel).DriverCall

    def call(self, function: Callable[..., Awaitable[object] | object], *args: object) -> object:
        """
        Call `function`, wait for it, and return its result.

        Raises:
            DriverError: As Jumpstarter's driver client raises it.
        """
        is_in_loop = threading.get_ident() == self._loop_thread  # there the portal itself raises a clear error
        if is_in_loop or not isinstance(function, MethodType) or function.__func__ is not _CALL:
            return self._portal.call(function, *args)
        stub = _BlockingStub(self._driver_call)
        try:
            return run_here(_CALL(_DriverWithStub(function.__self__, stub), *args))
        except LoopNeeded:
            if stub.is_sent:
                raise  # the call may have been carried out, so it is not sent again
            return self._portal.call(function, *args)

    def __getattr__(self, name: str) -> object:
        return getattr(self._portal, name)


_CALL: Callable[..., Coroutine[object, None, object]] = AsyncDriverClient.call_async
"""The method by which every driver client makes its plain calls: it awaits one call of its stub."""


def use_blocking_calls(driver: DriverClient, portal: BlockingCallPortal) -> None:
    """Make a driver client send its plain calls in the thread that waits for them."""
    driver.portal = portal  # type: ignore[assignment]  # it has all of a BlockingPortal, by __getattr__


class _DriverWithStub:
    """A driver client with another stub."""

    def __init__(self, driver: object, stub: _BlockingStub) -> None:
        self._driver = driver
        self.stub = stub

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)


class _BlockingStub:
    """
    As much of Jumpstarter's stub as one plain call needs; awaiting it blocks this thread.

    Attributes:
        is_sent: Whether the call may have been sent.
    """

    def __init__(self, driver_call: Callable[[DriverCallRequest], DriverCallResponse]) -> None:
        self._driver_call = driver_call
        self.is_sent = False

    async def DriverCall(self, request: DriverCallRequest) -> DriverCallResponse:  # noqa: N802  (the method's name)
        """Call a driver; raise the same errors as a call in the loop."""
        self.is_sent = True
        try:
            return self._driver_call(request)
        except grpc.RpcError as exc:
            raise _aio_error(exc) from None

    def __getattr__(self, name: str) -> NoReturn:
        raise LoopNeeded(f"Jumpstarter's driver client also calls {name}, which needs the event loop")


def _aio_error(exc: grpc.RpcError) -> grpc.aio.AioRpcError:
    """Return the error that grpc.aio would have raised."""
    call = cast("grpc.Call", exc)  # a channel raises the call itself as the error
    metadata = [grpc.aio.Metadata(*(pairs or ())) for pairs in (call.initial_metadata(), call.trailing_metadata())]
    debug: Callable[[], str | None] = getattr(exc, "debug_error_string", lambda: None)
    return grpc.aio.AioRpcError(call.code(), metadata[0], metadata[1], call.details(), debug())

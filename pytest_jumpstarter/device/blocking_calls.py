"""
Plain driver calls, made in the thread that waits for them.

Jumpstarter's driver clients hand each call to an event loop in another thread and wait for it to come back. A call with
one answer needs no loop: here it is sent and awaited with gRPC's blocking API, over a channel of its own through the
same tunnel, which takes a fifth off its round trip. Streams, and whatever else a driver client does, stay in the loop.

Source: jumpstarter.v1.ExporterService DriverCall
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from jumpstarter.client.core import AsyncDriverClient
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.portal import LoopNeeded, run_here

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient


class BlockingCallPortal:
    """
    The loop as driver clients see it: what they want done is done there, except for plain driver calls.

    Args:
        portal: The loop.
        channel: Goes to the exporter; it may connect when the first call is made.
    """

    def __init__(self, portal: BlockingPortal, channel: grpc.Channel) -> None:
        self._portal = portal
        self._loop_thread = portal.call(threading.get_ident)
        self._driver_call: Any = jumpstarter_pb2_grpc.ExporterServiceStub(channel).DriverCall

    def call(self, function: Any, *args: Any) -> Any:
        """
        Call `function` and wait for what it returns.

        Raises:
            DriverError: As Jumpstarter's driver client raises it.
        """
        is_plain = getattr(function, "__func__", None) is _CALL
        if not is_plain or threading.get_ident() == self._loop_thread:  # where the portal says what is wrong
            return self._portal.call(function, *args)
        stub = _BlockingStub(self._driver_call)
        try:
            return run_here(_CALL(_Caller(function.__self__, stub), *args))
        except LoopNeeded:
            if stub.is_sent:
                raise  # it may have been carried out, and is not sent twice
            return self._portal.call(function, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._portal, name)


_CALL: Any = AsyncDriverClient.call_async
"""What every driver client makes its plain calls with: it awaits one call of its stub."""


def use_blocking_calls(driver: DriverClient, portal: BlockingCallPortal) -> None:
    """Let a driver client make its plain calls in the thread that waits for them."""
    driver.portal = portal  # type: ignore[assignment]


class _Caller:
    """A driver client, but for the stub that it calls."""

    def __init__(self, driver: DriverClient, stub: _BlockingStub) -> None:
        self._driver = driver
        self.stub = stub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


class _BlockingStub:
    """
    Jumpstarter's stub, as far as one plain call needs it; to await it is to wait in this thread.

    Attributes:
        is_sent: Whether the call may have left.
    """

    def __init__(self, driver_call: Any) -> None:
        self._driver_call = driver_call
        self.is_sent = False

    async def DriverCall(self, request: Any) -> Any:  # noqa: N802  (the method's name)
        """Call a driver, and raise what a call in the loop would."""
        self.is_sent = True
        try:
            return self._driver_call(request)
        except grpc.RpcError as exc:
            raise _in_terms_of_the_loop(exc) from None

    def __getattr__(self, name: str) -> NoReturn:
        raise LoopNeeded(f"Jumpstarter's driver client calls {name} beside its driver")


def _in_terms_of_the_loop(exc: Any) -> grpc.aio.AioRpcError:
    """Return the error that grpc.aio would have raised."""
    metadata = [grpc.aio.Metadata(*(found or ())) for found in (exc.initial_metadata(), exc.trailing_metadata())]
    new: Callable[..., grpc.aio.AioRpcError] = grpc.aio.AioRpcError  # the stubs of its types say otherwise
    return new(exc.code(), *metadata, exc.details(), exc.debug_error_string())

"""
Plain driver calls, made in the thread that waits for them.

Jumpstarter's driver clients hand each call to an event loop in another thread and wait for it to come back. A call with
one answer needs no loop: here it is sent and awaited with gRPC's blocking API, over a channel of its own through the
same tunnel, which takes a fifth off its round trip. Streams, and whatever else a driver client does, stay in the loop.

Source: jumpstarter.v1.ExporterService DriverCall
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import grpc.aio
from jumpstarter.client.core import AsyncDriverClient, DriverInvalidArgument, DriverMethodNotImplemented
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.call_window import leaves, mark_call
from pytest_jumpstarter.device.portal import LoopNeeded, run_here

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

T = TypeVar("T")


class CallingPortal:
    """
    The loop as driver clients see it: what they want done is done there, except for plain driver calls.

    An error of a call is marked with the time at which the call began; see `call_window`.

    Attributes:
        last_failure: When a call failed last for another reason than its own words, by `time.monotonic()`.

    Args:
        portal: The loop.
        channel: Goes to the exporter; it may connect when the first call is made. None: all calls go through the loop.
    """

    def __init__(self, portal: BlockingPortal, channel: grpc.Channel | None) -> None:
        self._portal = portal
        self._loop_thread = portal.call(threading.get_ident)
        stub: Any = jumpstarter_pb2_grpc.ExporterServiceStub(channel) if channel is not None else None
        self._driver_call: Any = stub.DriverCall if stub is not None else None
        self._opened: dict[int, float] = {}
        self.last_failure = -math.inf

    def call(self, function: Any, *args: Any) -> Any:
        """
        Call `function` and wait for what it returns.

        Raises:
            DriverError: As Jumpstarter's driver client raises it.
        """
        began = time.monotonic()
        try:
            return self._call(function, *args)
        except Exception as exc:
            self._note(exc, self._opened.get(id(getattr(function, "__self__", None)), began))
            raise

    @contextmanager
    def wrap_async_context_manager(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter and leave `manager` in the loop; the window of a call on a stream begins where that was opened."""
        began, inside = time.monotonic(), None
        try:
            with self._portal.wrap_async_context_manager(manager) as opened:
                self._opened[id(opened)] = began
                try:
                    yield opened
                except BaseException as exc:
                    inside = exc
                    raise
                finally:
                    self._opened.pop(id(opened), None)
        except Exception as exc:
            for each in leaves(exc):
                if each is not inside:
                    self._note(each, began)
            raise

    def _note(self, error: BaseException, began: float) -> None:
        mark_call(error, began)
        if not isinstance(error, (DriverMethodNotImplemented, DriverInvalidArgument)):
            self.last_failure = time.monotonic()

    def _call(self, function: Any, *args: Any) -> Any:
        is_plain = self._driver_call is not None and getattr(function, "__func__", None) is _CALL
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


def call_directly(driver: DriverClient, portal: CallingPortal) -> None:
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

"""
Plain driver calls, made in the thread that waits for their result.

Jumpstarter's driver clients hand each call to the event loop in another thread and wait for its result. A call with one
answer needs no loop: here it is sent with gRPC's blocking API, over a channel of its own through the same tunnel. The
round trip is a fifth shorter. Streams, and everything else that a driver client does, stay in the loop.

Source: jumpstarter.v1.ExporterService DriverCall
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from types import AsyncGeneratorType, MethodType
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from jumpstarter.client.core import AsyncDriverClient, DriverInvalidArgument, DriverMethodNotImplemented
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.call_window import leaves, mark_call, was_never_sent
from pytest_jumpstarter.device.portal import LoopNeeded, run_here
from pytest_jumpstarter.errors import CallTimeout

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import DriverCallRequest, DriverCallResponse
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2_grpc import ExporterServiceStub

T = TypeVar("T")

CONNECT_PATIENCE = 20.0
"""Seconds for which a call waits that could not be sent, because the connection is being opened again."""

_READY_CHECK = 0.5


class DriverPortal:
    """
    Stands in for the portal of driver clients: plain driver calls block in the caller's thread, the rest uses the loop.

    An error of a call is marked with the time at which the call began; see `call_window`.

    Args:
        portal: The portal to the loop.
        channel: A channel to the exporter; it may connect when the first call is made. None: all calls use the loop.
        is_open: Tells whether the channel can be connected again once it broke.
        calls: Where it is noted since when the call of a thread runs.
        timeout: Seconds for one driver call; None for as long as it takes.

    Attributes:
        last_failure: When a call failed last, other than by a wrong method or argument; by `time.monotonic()`.
    """

    def __init__(
        self,
        portal: BlockingPortal,
        channel: grpc.Channel | None,
        is_open: Callable[[], bool] = lambda: True,
        *,
        calls: dict[int, float] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.last_failure = -math.inf
        self._portal = portal
        self._loop_thread = portal.call(threading.get_ident)
        self._driver_call: Callable[..., DriverCallResponse] | None = None
        self._until_ready: Callable[[float], bool] = lambda _: False
        if channel is not None:
            stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
            self._driver_call = stub.DriverCall
            self._until_ready = partial(_until_ready, stub, is_open)
        self._opened: dict[int, float] = {}
        self._calls = {} if calls is None else calls
        self._timeout = timeout

    def call(self, function: Callable[..., Awaitable[object] | object], *args: object) -> object:
        """
        Call `function`, wait for it, and return its result.

        Raises:
            DriverError: As Jumpstarter's driver client raises it.
            CallTimeout: It took longer than it may.
        """
        began = time.monotonic()
        thread = threading.get_ident()
        self._calls[thread] = began
        try:
            return self._call(function, *args)
        except Exception as exc:
            owner = getattr(function, "__self__", None)
            self._note(exc, self._opened.get(id(owner), began))
            raise
        finally:
            self._calls.pop(thread, None)

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

    def _call(self, function: Callable[..., Awaitable[object] | object], *args: object) -> object:
        is_in_loop = threading.get_ident() == self._loop_thread  # there the portal itself raises a clear error
        if is_in_loop or self._driver_call is None:
            return self._call_in_loop(function, *args)
        if not isinstance(function, MethodType) or function.__func__ is not _CALL:
            return self._call_in_loop(function, *args)
        stub = _BlockingStub(self._driver_call, self._until_ready, self._timeout)
        try:
            return run_here(_CALL(_DriverWithStub(function.__self__, stub), *args))
        except LoopNeeded:
            if stub.is_sent:
                raise  # the call may have been carried out, so it is not sent again
            return self._call_in_loop(function, *args)

    def _call_in_loop(self, function: Callable[..., Awaitable[object] | object], *args: object) -> object:
        """Call in the loop, for as long as a driver call may take if it is one, or the next answer of one."""
        method = _method(function, args) if self._timeout is not None else ""
        if not method or threading.get_ident() == self._loop_thread:
            return self._portal.call(function, *args)
        task = self._portal.start_task_soon(function, *args)
        try:
            return task.result(self._timeout)
        except TimeoutError as exc:
            if task.done():
                raise  # its own
            task.cancel()
            raise _too_long(method, self._timeout) from exc

    def __getattr__(self, name: str) -> object:
        return getattr(self._portal, name)


_CALL: Callable[..., Coroutine[object, None, object]] = AsyncDriverClient.call_async
"""The method by which every driver client makes its plain calls: it awaits one call of its stub."""


def give_portal(driver: DriverClient, portal: DriverPortal) -> None:
    """Make a driver client call through `portal`."""
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

    def __init__(
        self,
        driver_call: Callable[..., DriverCallResponse],
        until_ready: Callable[[float], bool],
        timeout: float | None,
    ) -> None:
        self._timeout = timeout
        self._driver_call = driver_call
        self._until_ready = until_ready
        self.is_sent = False

    async def DriverCall(self, request: DriverCallRequest) -> DriverCallResponse:  # noqa: N802  (the method's name)
        """Call a driver, once there is a connection; raise the same errors as a call in the loop."""
        self.is_sent = True
        deadline = 0.0
        while True:
            try:
                return self._driver_call(request, timeout=self._timeout)
            except grpc.RpcError as exc:
                error = _aio_error(exc)
            if self._timeout is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_long(request.method, self._timeout) from error
            deadline = deadline or time.monotonic() + CONNECT_PATIENCE
            if not was_never_sent(error) or not self._until_ready(deadline):
                raise error from None

    def __getattr__(self, name: str) -> NoReturn:
        raise LoopNeeded(f"Jumpstarter's driver client also calls {name}, which needs the event loop")


def _method(function: Callable[..., object], args: tuple[object, ...]) -> str:
    """Return which method of a driver this calls; empty if it is no call of a driver, such as reading a stream."""
    if isinstance(function, MethodType) and function.__func__ is _CALL:
        return str(args[0]) if args else "?"
    generator = getattr(function, "__self__", None)
    if not isinstance(generator, AsyncGeneratorType) or generator.__name__ != "streamingcall_async":
        return ""
    frame = generator.ag_frame
    return str(frame.f_locals.get("method", "?")) if frame is not None else "?"


def _too_long(method: str, timeout: float | None) -> CallTimeout:
    return CallTimeout(f"driver call {method!r} took longer than --jmp-call-timeout={timeout or 0:g}s allows")


def ping(channel: grpc.Channel, timeout: float) -> bool:
    """Tell whether an exporter answers anything within `timeout` seconds."""
    stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
    try:
        stub.GetReport(empty_pb2.Empty(), wait_for_ready=True, timeout=timeout)
    except grpc.RpcError as exc:
        code = cast("grpc.Call", exc).code()
        return code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    return True


def _until_ready(stub: ExporterServiceStub, is_open: Callable[[], bool], deadline: float) -> bool:
    """Wait until the exporter is connected, by a call that does nothing; tell whether it is by `deadline`."""
    while is_open() and time.monotonic() < deadline:
        try:
            stub.GetReport(empty_pb2.Empty(), wait_for_ready=True, timeout=_READY_CHECK)
        except grpc.RpcError as exc:
            error = _aio_error(exc)
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED and not was_never_sent(error):
                return True  # whatever it answers, it is there
        else:
            return True
    return False


def _aio_error(exc: grpc.RpcError) -> grpc.aio.AioRpcError:
    """Return the error that grpc.aio would have raised."""
    call = cast("grpc.Call", exc)  # a channel raises the call itself as the error
    metadata = [grpc.aio.Metadata(*(pairs or ())) for pairs in (call.initial_metadata(), call.trailing_metadata())]
    debug: Callable[[], str | None] = getattr(exc, "debug_error_string", lambda: None)
    return grpc.aio.AioRpcError(call.code(), metadata[0], metadata[1], call.details(), debug())

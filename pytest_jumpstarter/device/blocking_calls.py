"""
Plain driver calls, made in the thread that waits for their result.

Jumpstarter's driver clients hand each call to the event loop in another thread and wait for its result. A call with one
answer needs no loop: here it is sent with gRPC's blocking API, over a channel of its own to the same exporter. The
round trip is a fifth shorter. Streams, and everything else that a driver client does, stay in the loop.

Source: jumpstarter.v1.ExporterService DriverCall
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from types import AsyncGeneratorType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import grpc.aio
from anyio.from_thread import BlockingPortal
from jumpstarter_protocol import jumpstarter_pb2_grpc

from pytest_jumpstarter.device.blocking_channel import aio_error, until_ready
from pytest_jumpstarter.device.call_window import leaves, mark_call, was_never_sent
from pytest_jumpstarter.device.portal import LoopNeeded, require_parent, run_here
from pytest_jumpstarter.device.streaming_calls import end_unread_streams
from pytest_jumpstarter.errors import CallTimeout
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.jumpstarter_private import (
    AsyncDriverClient,
    DriverInvalidArgument,
    DriverMethodNotImplemented,
)

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient
    from jumpstarter_protocol import jumpstarter_pb2

T = TypeVar("T")

CONNECT_PATIENCE = 20.0
"""Seconds for which a call waits that could not be sent, because the connection is being opened again."""


class DriverPortal(BlockingPortal):
    """
    Replaces the portal of driver clients: plain driver calls block in the caller's thread, the rest uses the loop.

    An error of a call is marked with the time at which the call began; see `call_window`. It is a `BlockingPortal`,
    because a driver client may give it to another one, which checks the type.

    Args:
        portal: The portal to the loop.
        new_channel: Returns a new channel to the exporter, which may connect when the first call is made.
        is_open: Returns whether the channel can be connected again after it broke.
        calls: Receives the start of the call that a thread waits for, by thread.
        timeout: Seconds for one driver call; None for as long as it takes.

    Attributes:
        last_failure: When a call failed last, other than by a wrong method or argument; by `time.monotonic()`.
        last_answer: When a call last returned.
    """

    def __new__(cls, *args: object, **kwargs: object) -> DriverPortal:  # noqa: ARG004 - the arguments of `__init__`
        """Return a new portal without a loop of its own."""
        return object.__new__(cls)

    def __init__(  # the base class would look for a running loop
        self,
        portal: BlockingPortal,
        new_channel: Callable[[], grpc.Channel],
        is_open: Callable[[], bool] = lambda: True,
        *,
        calls: dict[int, float] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.last_failure = self.last_answer = -math.inf
        self._process = os.getpid()
        self._in_parent = portal
        self._loop_thread = portal.call(threading.get_ident)
        self._driver_call: Callable[..., jumpstarter_pb2.DriverCallResponse]
        self._until_ready: Callable[[float], bool]
        self._new_channel = new_channel
        self._is_open = is_open
        self._interrupted: list[grpc.Channel] = []  # kept, so that they are not closed
        self._use(new_channel())
        self._opened: dict[int, float] = {}
        self._calls = {} if calls is None else calls
        self._timeout = timeout

    def call(self, func: Callable[..., object], *args: object) -> Any:
        """
        Call `func`, wait for it, and return its result.

        Raises:
            DriverError: As Jumpstarter's driver client raises it.
            CallTimeout: It took longer than it may.
        """
        _ = self._portal  # in a forked child, raises an error
        began = real_time.monotonic()
        thread = threading.get_ident()
        self._calls[thread] = began
        try:
            result = self._call(func, *args)
        except Exception as exc:
            owner = getattr(func, "__self__", None)
            self._note(exc, self._opened.get(id(owner), began))
            raise
        finally:
            self._calls.pop(thread, None)
        self.last_answer = real_time.monotonic()
        return result

    def close_channel(self) -> None:
        """Close the channel of plain driver calls."""
        self._channel.close()

    def _renew_channel(self) -> None:
        """
        Use a new channel for later plain driver calls, and do not close the one of before.

        If a signal handler raises an exception during a call, gRPC may keep a lock of the channel: then all later calls
        would hang, and so would closing it.
        """
        self._interrupted.append(self._channel)
        self._use(self._new_channel())

    def _use(self, channel: grpc.Channel) -> None:
        self._channel = channel
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        self._driver_call = stub.DriverCall
        self._until_ready = partial(until_ready, stub, self._is_open)

    def start_task_soon(self, func: Callable[..., object], *args: object, name: object = None) -> Future[Any]:
        """Start `func` in the loop, and return its future."""
        return self._portal.start_task_soon(func, *args, name=name)

    def start_task(
        self, func: Callable[..., Awaitable[T]], *args: object, name: object = None
    ) -> tuple[Future[T], Any]:
        """Start `func` in the loop, wait until it reports that it has started; return its future and that report."""
        return self._portal.start_task(func, *args, name=name)

    async def sleep_until_stopped(self) -> None:
        """Wait until the loop is stopped."""
        await self._portal.sleep_until_stopped()

    async def stop(self, cancel_remaining: bool = False) -> None:
        """Stop the loop."""
        await self._portal.stop(cancel_remaining)

    @contextmanager
    def wrap_async_context_manager(self, cm: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """
        Enter and leave `cm` in the loop; the window of a call on a stream begins where that was opened.

        Jumpstarter's streams raise what ends them in a group. An error of the test or of a signal handler that came in
        the block is raised alone, because pytest would not see in a group that the run ends. The loop gets another
        error in place of Ctrl-C, which would end the loop.
        """
        inside: BaseException | None = None
        passed = ended = inside
        try:
            with self._opened_in_loop(cm) as opened:
                try:
                    yield opened
                except BaseException as exc:
                    inside, passed = exc, _Interrupted() if isinstance(exc, _ENDS_LOOP) else exc
                    raise passed  # noqa: B904 - mostly it is the same
        except BaseException as exc:
            if inside is None or (passed is inside and (_is_of_jumpstarter(inside) or list(leaves(exc)) != [inside])):
                raise
            ended = inside
        if isinstance(inside, _ENDS_LOOP):
            raise inside
        if ended is not None:
            raise ended

    @contextmanager
    def _opened_in_loop(self, cm: AbstractAsyncContextManager[T]) -> Iterator[T]:
        began, inside = real_time.monotonic(), None
        try:
            with self._portal.wrap_async_context_manager(cm) as opened:
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

    @property
    def _portal(self) -> BlockingPortal:
        """The portal to the loop, whose thread a forked child has not: a call would wait for it for ever."""
        require_parent(self._process)
        return self._in_parent

    def _note(self, error: BaseException, began: float) -> None:
        mark_call(error, began)
        if not isinstance(error, (DriverMethodNotImplemented, DriverInvalidArgument)):
            self.last_failure = real_time.monotonic()

    def _call(self, function: Callable[..., Awaitable[object] | object], *args: object) -> object:
        is_in_loop = threading.get_ident() == self._loop_thread  # there the portal itself raises a clear error
        if is_in_loop:
            return self._call_in_loop(function, *args)
        if not isinstance(function, MethodType) or function.__func__ is not _CALL:
            return self._call_in_loop(function, *args)
        stub = _BlockingStub(self._driver_call, self._until_ready, self._timeout, self._renew_channel)
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


class _Interrupted(Exception):
    """Ends a stream in the loop in place of Ctrl-C."""


_ENDS_LOOP = (KeyboardInterrupt, SystemExit)
"""What asyncio's tasks raise in the loop itself."""

_CALL: Callable[..., Coroutine[object, None, object]] = AsyncDriverClient.call_async
"""The method by which every driver client makes its plain calls: it awaits one call of its stub."""


def give_portal(driver: DriverClient, portal: DriverPortal) -> None:
    """Make a driver client call through `portal`, and end its streams when nobody reads them."""
    driver.portal = portal
    end_unread_streams(driver)


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
        driver_call: Callable[..., jumpstarter_pb2.DriverCallResponse],
        until_ready: Callable[[float], bool],
        timeout: float | None,
        on_interrupt: Callable[[], None],
    ) -> None:
        self._timeout = timeout
        self._on_interrupt = on_interrupt
        self._driver_call = driver_call
        self._until_ready = until_ready
        self.is_sent = False

    async def DriverCall(self, request: jumpstarter_pb2.DriverCallRequest) -> jumpstarter_pb2.DriverCallResponse:  # noqa: N802  (the method's name)
        """Call a driver, once there is a connection; raise the same errors as a call in the loop."""
        self.is_sent = True
        try:
            return self._call(request)
        except (grpc.RpcError, CallTimeout):
            raise
        except BaseException:  # a signal handler raised it
            self._on_interrupt()
            raise

    def _call(self, request: jumpstarter_pb2.DriverCallRequest) -> jumpstarter_pb2.DriverCallResponse:
        deadline = 0.0
        while True:
            try:
                return self._driver_call(request, timeout=self._timeout)
            except grpc.RpcError as exc:
                error = aio_error(exc)
            if self._timeout is not None and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise _too_long(request.method, self._timeout) from error
            deadline = deadline or real_time.monotonic() + CONNECT_PATIENCE
            if not was_never_sent(error) or not self._until_ready(deadline):
                raise error from None

    def __getattr__(self, name: str) -> NoReturn:
        raise LoopNeeded(f"Jumpstarter's driver client also calls {name}, which needs the event loop")


def _is_of_jumpstarter(error: BaseException) -> bool:
    """Return whether this is an error of Jumpstarter's, such as that of a driver."""
    return type(error).__module__.partition(".")[0] == "jumpstarter"


def _method(function: Callable[..., object], args: tuple[object, ...]) -> str:
    """Return the driver's method that this calls; empty if it is no driver call, for example a read of a stream."""
    if isinstance(function, MethodType) and function.__func__ is _CALL:
        return str(args[0]) if args else "?"
    generator = getattr(function, "__self__", None)
    if not isinstance(generator, AsyncGeneratorType) or generator.__name__ != "streamingcall_async":
        return ""
    frame = generator.ag_frame
    return str(frame.f_locals.get("method", "?")) if frame is not None else "?"


def _too_long(method: str, timeout: float | None) -> CallTimeout:
    return CallTimeout(f"driver call {method!r} took longer than --jmp-call-timeout={timeout or 0:g}s allows")

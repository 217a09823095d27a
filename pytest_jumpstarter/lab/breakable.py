"""Streams that can be broken from outside, as a network or a restart breaks them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

import grpc

_ROUTER = "/jumpstarter.v1.RouterService/"
_OF_EXPORTERS = ("/jumpstarter.v1.ControllerService/Status", "/jumpstarter.v1.ControllerService/Listen")

_Tasks = dict[asyncio.Future[Any], str]
"""Running streams, each with the name of who opened it."""


class BreakableStreams(grpc.aio.ServerInterceptor):
    """Knows every stream through the router, and of exporters to the lab controller, and can break them all at once."""

    def __init__(self) -> None:
        self._routed: _Tasks = {}
        self._of_exporters: _Tasks = {}

    def cut(self) -> int:
        """Break the streams through the router; return how many there were: a pair are two."""
        return _cancel(list(self._routed))

    def hang_up(self, is_meant: Callable[[str], bool]) -> int:
        """Break the streams of exporters, by which they hear of leases and of dials; return how many there were."""
        return _cancel([task for task, name in self._of_exporters.items() if is_meant(name)])

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Run such streams in tasks of their own."""
        handler = await continuation(details)
        if details.method.startswith(_ROUTER):
            stream = _in_task(handler.stream_stream, self._routed, "", "the router connection was cut")
            return grpc.stream_stream_rpc_method_handler(stream)
        if details.method in _OF_EXPORTERS:
            name = str(dict(details.invocation_metadata or ()).get("jumpstarter-name", ""))
            stream = _in_task(_written(handler.unary_stream), self._of_exporters, name, "the lab controller restarts")
            return grpc.unary_stream_rpc_method_handler(
                stream,
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return handler


def _cancel(tasks: Collection[asyncio.Future[Any]]) -> int:
    for task in tasks:
        task.cancel()
    return len(tasks)


def _written(items: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a handler that writes what the generator `items` yields, so that it can run in a task."""

    async def write(request: Any, context: Any) -> None:
        async with contextlib.aclosing(items(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return write


def _in_task(
    stream: Callable[..., Coroutine[Any, Any, None]], tasks: _Tasks, name: str, reason: str
) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a handler that runs `stream` in a task, kept in `tasks`; where that is cancelled, the peer is told why."""

    async def run(request: Any, context: Any) -> None:
        task = asyncio.ensure_future(stream(request, context))
        tasks[task] = name
        try:
            await asyncio.wait([task])
        finally:
            del tasks[task]
            is_cut = not task.cancel() and task.cancelled()
        if is_cut:
            await context.abort(grpc.StatusCode.UNAVAILABLE, reason)
        await task

    return run

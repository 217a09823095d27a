"""
Errors that become gRPC statuses: raised anywhere in a handler, sent by `answering` or `streaming`.

`BrokenRequests` does the same for requests that cannot be decoded, before any handler gets them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]  # a call in the server; only generic for mypy

_Answer = TypeVar("_Answer")
_LONGEST = 1500  # characters; a peer drops the whole answer if its headers are longer than 8 KiB


class Refusal(Exception):
    """
    A call is refused with a status code and text.

    Most codes are UNKNOWN: the production controller returns plain errors, and clients look at their text.
    """

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


async def abort(context: Context, refusal: Refusal) -> None:
    """End a call with a refusal, shortened to what a peer accepts."""
    text = refusal.text if len(refusal.text) <= _LONGEST else refusal.text[:_LONGEST] + "..."
    await context.abort(refusal.code, text.encode("ascii", "replace").decode() if len(text) > 500 else text)


def answering(method: Callable[..., Awaitable[_Answer]]) -> Callable[..., Awaitable[_Answer]]:
    """Wrap a handler with one answer, so that refusals are sent as statuses."""

    @functools.wraps(method)
    async def answer(self: object, request: object, context: Context) -> _Answer:
        try:
            return await method(self, request, context)
        except Refusal as refusal:
            await abort(context, refusal)
            raise  # never reached: `abort` raises an exception of its own

    return answer


def streaming(method: Callable[..., AsyncGenerator[_Answer, None]]) -> Callable[..., AsyncGenerator[_Answer, None]]:
    """Wrap a handler with a stream of answers, so that refusals are sent as statuses."""

    @functools.wraps(method)
    async def answer(self: object, request: object, context: Context) -> AsyncGenerator[_Answer, None]:
        try:
            async with contextlib.aclosing(method(self, request, context)) as items:
                async for item in items:
                    yield item
        except Refusal as refusal:
            await abort(context, refusal)

    return answer


class BrokenRequests(grpc.aio.ServerInterceptor):
    """Answers a request that cannot be decoded with INTERNAL, as gRPC in Go does; gRPC in Python answers UNKNOWN."""

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Decode the request of a call with one answer in a way that cannot fail."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def decode(data: bytes) -> object:
            try:
                return handler.request_deserializer(data)
            except DecodeError as error:
                return error

        async def answer(request: object, context: Context) -> object:
            if isinstance(request, DecodeError):
                await abort(context, Refusal(f"grpc: error unmarshalling request: {request}", grpc.StatusCode.INTERNAL))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, request_deserializer=decode, response_serializer=handler.response_serializer
        )

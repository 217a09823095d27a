"""Errors that are answers: raised anywhere below a handler, sent as a gRPC status by `answering`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]  # a call, from the server's side; generic for mypy alone

_Answer = TypeVar("_Answer")
_LONGEST = 1500  # characters; a peer drops the whole answer when its headers pass 8 KiB


class Refusal(Exception):
    """
    Carry a status code and its text.

    Most codes are UNKNOWN: the production controller returns plain errors, and clients go by their text.
    """

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


async def abort(context: Context, refusal: Refusal) -> None:
    """End a call with a refusal, cut to what a peer accepts."""
    text = refusal.text if len(refusal.text) <= _LONGEST else refusal.text[:_LONGEST] + "..."
    await context.abort(refusal.code, text.encode("ascii", "replace").decode() if len(text) > 500 else text)


def answering(method: Callable[..., Awaitable[_Answer]]) -> Callable[..., Awaitable[_Answer]]:
    """Make a handler that answers once send its refusals as statuses."""

    @functools.wraps(method)
    async def answer(self: object, request: object, context: Context) -> _Answer:
        try:
            return await method(self, request, context)
        except Refusal as refusal:
            await abort(context, refusal)
            raise  # never reached: `abort` ends the call by an exception of its own

    return answer


def streaming(method: Callable[..., AsyncGenerator[_Answer, None]]) -> Callable[..., AsyncGenerator[_Answer, None]]:
    """Make a handler that answers many times send its refusals as statuses."""

    @functools.wraps(method)
    async def answer(self: object, request: object, context: Context) -> AsyncGenerator[_Answer, None]:
        try:
            async with contextlib.aclosing(method(self, request, context)) as items:
                async for item in items:
                    yield item
        except Refusal as refusal:
            await abort(context, refusal)

    return answer

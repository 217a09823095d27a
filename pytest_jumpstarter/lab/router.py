"""
jumpstarter.v1.RouterService: joins the two ends of a stream, and copies frames between them unchanged.

Frames are not decoded: request and response have the same fields, so that their bytes are the same (payload: one
frame; frame type: DATA, GOAWAY, …). The first end is parked until the second comes. Nothing is read from it meanwhile;
gRPC's flow control keeps what it already sent.

Source: jumpstarter/v1/router.proto, and the production router
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import grpc

from pytest_jumpstarter.lab.access import bearer_token
from pytest_jumpstarter.lab.authority import Authority, TokenRejected
from pytest_jumpstarter.lab.refusal import Refusal, answering

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.refusal import Context

_METHOD = "/jumpstarter.v1.RouterService/Stream"


class _Parked:
    """The first end of a stream, which waits for the second end, and then for the end of the stream."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.is_over = asyncio.Event()
        self.is_gone = asyncio.Event()


class Router(grpc.GenericRpcHandler):
    """
    Routes streams for leases.

    Attributes:
        endpoint: `host:port` of this router; set when its server knows its port.
    """

    def __init__(self, authority: Authority) -> None:
        self.endpoint = ""
        self._authority = authority
        self._parked: dict[str, _Parked] = {}
        self._leases: dict[str, str] = {}  # stream id -> name of the lease it was issued for

    def issue(self, lease: str) -> tuple[str, str]:
        """Return the endpoint and the token for a new stream of `lease`."""
        stream_id = str(uuid.uuid4())
        self._leases[stream_id] = lease
        return self.endpoint, self._authority.issue_router(stream_id)

    def release(self, lease: str) -> None:
        """Release the parked ends of a lease that has ended; joined streams end by themselves."""
        for stream_id in [known for known, owner in self._leases.items() if owner == lease]:
            del self._leases[stream_id]
            if parked := self._parked.get(stream_id):
                parked.is_over.set()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return the handler of the only method, with frames as bytes."""
        if details.method != _METHOD:
            return None
        stream = cast(Callable[..., Any], self._stream)  # the types of gRPC know no handler that reads by itself
        return grpc.stream_stream_rpc_method_handler(stream)

    @answering
    async def _stream(self, _frames: object, context: Context) -> None:
        stream_id = self._stream_id(context)
        parked = self._parked.pop(stream_id, None)
        if parked:
            await _join(parked, context)
        else:
            await self._park(stream_id, context)

    def _stream_id(self, context: Context) -> str:
        try:
            token = bearer_token(context)
        except Refusal as refusal:
            text = f"missing or invalid authorization: {refusal.text}"
            raise Refusal(text, grpc.StatusCode.UNAUTHENTICATED) from refusal
        try:
            stream_id = self._authority.verify_router(token)
        except TokenRejected as rejection:
            raise Refusal(str(rejection), grpc.StatusCode.UNAUTHENTICATED) from rejection
        if stream_id not in self._leases:
            raise Refusal("the lease of this stream has ended", grpc.StatusCode.UNAVAILABLE)
        return stream_id

    async def _park(self, stream_id: str, context: Context) -> None:
        parked = self._parked[stream_id] = _Parked(context)
        try:
            await parked.is_over.wait()
        finally:
            parked.is_gone.set()
            if self._parked.get(stream_id) is parked:
                del self._parked[stream_id]


async def _join(first: _Parked, second: Context) -> None:
    """Copy in both directions until both end or one fails; if one end closes, the other is closed at once."""
    copies = [
        asyncio.create_task(_copy(second, first.context)),
        asyncio.create_task(_copy(first.context, second)),
    ]
    gone = asyncio.create_task(first.is_gone.wait())
    try:
        await _until_over(copies, gone)
    finally:
        first.is_over.set()
        for task in (*copies, gone):
            task.cancel()
        await asyncio.gather(*copies, gone, return_exceptions=True)


async def _until_over(copies: list[asyncio.Task[None]], gone: asyncio.Task[Any]) -> None:
    pending: set[asyncio.Task[Any]] = {*copies, gone}
    while pending - {gone}:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if gone in done or any(copy.exception() for copy in done):
            raise Refusal("context canceled", grpc.StatusCode.CANCELLED)


async def _copy(source: Context, target: Context) -> None:
    read = cast(Callable[[], Awaitable[Any]], source.read)  # the types of gRPC do not know EOF as a result
    while (frame := await read()) is not grpc.aio.EOF:
        await target.write(frame)

"""
`Relay`: copies between one connection of the tunnel and a stream through a router.

A frame has at most `FRAME_BYTES` of payload. The end of input is a GOAWAY frame, then a half-closed stream.

Source: jumpstarter.v1.RouterService (router.proto)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from jumpstarter_protocol import router_pb2

from pytest_jumpstarter.device.socket_end import SocketEnd

if TYPE_CHECKING:
    import grpc.aio

    Stream: TypeAlias = grpc.aio.StreamStreamCall[router_pb2.StreamRequest, router_pb2.StreamResponse]

FRAME_BYTES = 1 << 18
"""Larger frames do not make a flash faster, but need more memory, and more CPU time because of the cache."""


class Relay:
    """
    Copies both ways; until anything has come from the exporter, all data can be sent again over another stream.

    Args:
        end: The local end of the connection.
        on_frame: Called for each frame that comes from the exporter.
    """

    def __init__(self, end: SocketEnd, on_frame: Callable[[], None]) -> None:
        self._end = end
        self._on_frame = on_frame
        self._unanswered: list[bytes] | None = []
        self._room = FRAME_BYTES

    @property
    def can_start_over(self) -> bool:
        """Whether nothing came from the exporter yet, and all that was sent to it is kept."""
        return self._unanswered is not None

    async def run(self, stream: Stream) -> None:
        """Copy until both directions have ended; if one fails, both are cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._upstream(stream))
            group.create_task(self._downstream(stream))

    async def _upstream(self, stream: Stream) -> None:
        """Copy from the socket to the router; `write` waits while the other side is slow."""
        for payload in tuple(self._unanswered or ()):
            await stream.write(router_pb2.StreamRequest(payload=payload))
        while payload := await self._end.read():
            if self._unanswered is not None:
                self._keep(payload)
            await stream.write(router_pb2.StreamRequest(payload=payload))
        await stream.write(router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY))
        await stream.done_writing()

    async def _downstream(self, stream: Stream) -> None:
        """Copy from the router to the socket until a GOAWAY frame or the end of the stream."""
        while isinstance(frame := await stream.read(), router_pb2.StreamResponse):  # else it is grpc.aio.EOF
            self._unanswered = None
            self._on_frame()
            if frame.frame_type == router_pb2.FRAME_TYPE_GOAWAY:
                break
            if frame.frame_type == router_pb2.FRAME_TYPE_DATA:
                await self._end.write(frame.payload)
        self._end.write_eof()

    def _keep(self, payload: bytes) -> None:
        """Keep what the exporter has not answered; gRPC sends no more than a greeting before it has."""
        self._room -= len(payload)
        if self._unanswered is not None and self._room >= 0:
            self._unanswered.append(payload)
        else:
            self._unanswered = None

"""
What the exporter's beforeLease hook says, read while it runs.

Source: jumpstarter.v1.ExporterService LogStream; one reader a lease, since each record goes to one reader only
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from contextlib import suppress

from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.device.tunnel import Tunnel

LINES = 20
LAST_WORDS_TIMEOUT = 1.0
"""Seconds that a failed hook's last words may take: the exporter gives the lease back about as soon."""


class HookLog:
    """
    Collects the hook's output from `start` to `stop`, over a tunnel of its own.

    Dial is allowed while the hook runs; the exporter bridges the connection when the hook is done, well or ill, and
    then hands over what was logged meanwhile.
    """

    def __init__(self, portal: Portal, tunnel: Tunnel) -> None:
        self._portal = portal
        self._tunnel = tunnel
        self._lines: deque[str] = deque(maxlen=LINES)
        self._reading: Future[None] | None = None

    def start(self) -> None:
        """Begin to read; what goes wrong with it harms nobody."""
        self._reading = self._portal.start().start_task_soon(self._read)

    def last_words(self) -> str:
        """Return the end of the output, each line indented; wait a moment for it to come."""
        if self._reading is not None:
            with suppress(Exception):
                self._reading.result(LAST_WORDS_TIMEOUT)
        return "".join(f"\n    {line}" for line in self._lines)

    def stop(self) -> None:
        """Stop reading, and see the tunnel closed."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(TimeoutError):
                self._portal.start().start_task_soon(self._tunnel.close).result(LAST_WORDS_TIMEOUT)

    async def _read(self) -> None:
        import grpc
        from google.protobuf import empty_pb2
        from jumpstarter_protocol.jumpstarter.v1 import common_pb2, jumpstarter_pb2_grpc

        try:
            credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
            async with grpc.aio.secure_channel(f"unix:{await self._tunnel.open()}", credentials) as channel:
                async for entry in jumpstarter_pb2_grpc.ExporterServiceStub(channel).LogStream(empty_pb2.Empty()):
                    if entry.source == common_pb2.LOG_SOURCE_BEFORE_LEASE_HOOK:
                        self._lines.append(entry.message)
        finally:
            await self._tunnel.close()

"""
The log of the exporter during a lease: of its drivers, its hooks and itself.

Source: jumpstarter.v1.ExporterService LogStream; there is one reader for each lease, since each entry goes to only one
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pytest_jumpstarter.device.portal import Portal

if TYPE_CHECKING:
    import grpc

    from pytest_jumpstarter.device.tunnel import Tunnel

LOGGER = "jumpstarter.exporter"
LAST_WORDS_TIMEOUT = 1.0
"""Seconds to wait for the last output of a failed hook; the exporter releases the lease after about as long."""

_LAST_WORDS = 20
_KEPT = 10_000
_CHARACTERS = 4096
_REPEAT = 1.0
_QUIET, _SETTLED = 0.15, 0.5  # an exporter checks for new entries every 50 ms
_HOOKS = {"before_lease_hook": "beforeLease hook", "after_lease_hook": "afterLease hook"}


class LogEntry(NamedTuple):
    """
    One message in the log of the exporter.

    Attributes:
        moment: The Unix time at which it arrived here.
        level: The name of its level, as in `logging`.
        source: driver, system, before_lease_hook or after_lease_hook.
        message: Its text.
    """

    moment: float
    level: str
    source: str
    message: str

    def __str__(self) -> str:
        hook = f"{_HOOKS[self.source]}: " if self.source in _HOOKS else ""
        return f"{self.level} {hook}{self.message}"


class ExporterLog:
    """
    Collects the log of one exporter from `start` to `stop`, and passes it on to `logging`.

    The loggers are `jumpstarter.exporter.ROLE.SOURCE`.

    Args:
        portal: The loop in which the log is read.
        role: The role of the device.

    Attributes:
        end: The number of entries that arrived.
        since: The number of the first entry of the current test.
    """

    def __init__(self, portal: Portal, role: str) -> None:
        self._portal = portal
        self._role = role
        self._entries: deque[tuple[int, LogEntry]] = deque(maxlen=_KEPT)
        self._last = 0.0
        self._tunnel: Tunnel | None = None
        self._at_hook: Future[None] | None = None
        self._reading: Future[None] | None = None
        self.end = 0
        self.since = 0

    def start_at_hook(self, tunnel: Tunnel) -> None:
        """
        Start to read while the beforeLease hook runs, through a tunnel of its own; errors are ignored.

        Dial is allowed while the hook runs. The exporter accepts the connection when the hook has ended, successfully
        or not, and then sends what was logged meanwhile.
        """
        self._tunnel = tunnel
        self._at_hook = self._portal.start().start_task_soon(self._read_tunnel, tunnel)

    def start(self, channel: grpc.aio.Channel) -> None:
        """Start to read over the connection of the device, after the reading that `start_at_hook` began has ended."""
        self._reading = self._portal.start().start_task_soon(self._follow, channel)

    def since_test(self) -> list[LogEntry]:
        """Return the entries of the current test, as far as they are kept."""
        return [entry for number, entry in list(self._entries) if number >= self.since]

    def settle(self) -> None:
        """Wait a moment for entries that the exporter has just written."""
        start = time.monotonic()
        while time.monotonic() < min(max(start, self._last) + _QUIET, start + _SETTLED):
            time.sleep(0.02)

    def last_words(self) -> str:
        """Return the last lines of the beforeLease hook's output, indented; wait a moment for them to arrive."""
        if self._at_hook is not None:
            with suppress(Exception):
                self._at_hook.result(LAST_WORDS_TIMEOUT)
        said = [entry.message for _, entry in list(self._entries) if entry.source == "before_lease_hook"]
        return "".join(f"\n    {line}" for line in said[-_LAST_WORDS:])

    def stop(self) -> None:
        """Stop reading, and close the tunnel; a second call does nothing."""
        for reading in filter(None, (self._at_hook, self._reading)):
            reading.cancel()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            with suppress(TimeoutError):
                self._portal.start().start_task_soon(tunnel.close).result(LAST_WORDS_TIMEOUT)

    async def _read_tunnel(self, tunnel: Tunnel) -> None:
        import grpc

        try:
            credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
            async with grpc.aio.secure_channel(f"unix:{await tunnel.open()}", credentials) as channel:
                await self._read(channel)
        finally:
            await tunnel.close()

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        """Read whenever there is a connection, but never cause one to be opened."""
        import grpc

        if self._at_hook is not None:
            with suppress(Exception):
                await asyncio.wrap_future(self._at_hook)
        while True:
            try:
                await self._read(channel)
            except grpc.aio.AioRpcError as exc:
                if exc.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED):
                    return  # an old exporter
            await asyncio.sleep(_REPEAT)
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)

    async def _read(self, channel: grpc.aio.Channel) -> None:
        from google.protobuf import empty_pb2
        from jumpstarter_protocol.jumpstarter.v1 import common_pb2, jumpstarter_pb2_grpc

        names = {number: name.removeprefix("LOG_SOURCE_").lower() for name, number in common_pb2.LogSource.items()}
        async for entry in jumpstarter_pb2_grpc.ExporterServiceStub(channel).LogStream(empty_pb2.Empty()):
            source = names.get(entry.source, "system")
            level = entry.severity if isinstance(logging.getLevelName(entry.severity), int) else "INFO"
            self._keep(LogEntry(time.time(), level, source, entry.message[:_CHARACTERS]))

    def _keep(self, entry: LogEntry) -> None:
        self._entries.append((self.end, entry))
        self.end += 1
        self._last = time.monotonic()
        hook = f"{_HOOKS[entry.source]}: " if entry.source in _HOOKS else ""
        logger = logging.getLogger(f"{LOGGER}.{self._role}.{entry.source}")
        logger.log(logging.getLevelName(entry.level), "%s%s", hook, entry.message)

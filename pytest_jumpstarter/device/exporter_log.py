"""
What the exporter says during a lease: its drivers, its hooks, itself.

Source: jumpstarter.v1.ExporterService LogStream; one reader a lease, since each entry goes to one reader only
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
"""Seconds that a failed hook's last words may take: the exporter gives the lease back about as soon."""

_LAST_WORDS = 20
_KEPT = 10_000
_CHARACTERS = 4096
_REPEAT = 1.0
_QUIET, _SETTLED = 0.15, 0.5  # an exporter looks for news each 50 ms
_HOOKS = {"before_lease_hook": "beforeLease hook", "after_lease_hook": "afterLease hook"}


class LogEntry(NamedTuple):
    """
    One thing that the exporter said.

    Attributes:
        moment: Unix time at which it came here.
        level: A level's name, as of `logging`.
        source: driver, system, before_lease_hook or after_lease_hook.
        message: Its words.
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
    Collects what one exporter says from `start` to `stop`, and passes it on to `logging`.

    The loggers are `jumpstarter.exporter.ROLE.SOURCE`.

    Args:
        role: The device's.

    Attributes:
        end: The number of records that came.
        since: The entry at which the test under way began.
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
        Begin to read while the beforeLease hook runs, over a tunnel of our own; what goes wrong with it harms nobody.

        Dial is allowed while the hook runs; the exporter bridges the connection when the hook is done, well or ill,
        and then hands over what was logged meanwhile.
        """
        self._tunnel = tunnel
        self._at_hook = self._portal.start().start_task_soon(self._read_tunnel, tunnel)

    def start(self, channel: grpc.aio.Channel) -> None:
        """Begin to read over the device's own connection, unless we do already; then when that has ended."""
        self._reading = self._portal.start().start_task_soon(self._follow, channel)

    def since_test(self) -> list[LogEntry]:
        """Return what came since the test under way began, as far as it is kept."""
        return [entry for number, entry in list(self._entries) if number >= self.since]

    def settle(self) -> None:
        """Wait a moment for what the exporter said just now."""
        start = time.monotonic()
        while time.monotonic() < min(max(start, self._last) + _QUIET, start + _SETTLED):
            time.sleep(0.02)

    def last_words(self) -> str:
        """Return the end of a hook's output, each line indented; wait a moment for it to come."""
        if self._at_hook is not None:
            with suppress(Exception):
                self._at_hook.result(LAST_WORDS_TIMEOUT)
        said = [entry.message for _, entry in list(self._entries) if entry.source == "before_lease_hook"]
        return "".join(f"\n    {line}" for line in said[-_LAST_WORDS:])

    def stop(self) -> None:
        """Stop reading, and see the tunnel closed; a second call does nothing."""
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
        """Read for as long as there is a connection; when it is there again, go on, but never open one."""
        import grpc

        if self._at_hook is not None:
            with suppress(Exception):
                await asyncio.wrap_future(self._at_hook)
        while True:
            try:
                await self._read(channel)
            except grpc.aio.AioRpcError as exc:
                if exc.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED):
                    return  # an exporter of old
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

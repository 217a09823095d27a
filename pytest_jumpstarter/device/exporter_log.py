"""
The log of the exporter during a lease: of its drivers, its hooks and itself.

Source: jumpstarter.v1.ExporterService LogStream; there is one reader for each lease, since each entry goes to only one
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import first_characters

if TYPE_CHECKING:
    import grpc
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.device.tunnel import Tunnel

Hook = Literal["before_lease_hook", "after_lease_hook"]

LOGGER = "jumpstarter.exporter"
LAST_WORDS_TIMEOUT = 1.0
"""Seconds to wait for the last output of a failed hook; the exporter releases the lease after about as long."""

_LAST_WORDS = 20
_KEPT = 10_000
_CHARACTERS = 4096
_NO_WARNING = ("DEBUG", "INFO")
_REPEAT = 1.0
_QUIET, _SETTLED = 0.15, 0.5  # an exporter checks for new entries every 50 ms
_LOGGERS = {"before_lease_hook": "exporter:beforeLease", "after_lease_hook": "exporter:afterLease"}
"""The loggers of Jumpstarter's `log_stream`; those of other sources are `exporter:SOURCE`."""

_FIELDS = ("uuid", "severity", "message", "source")
_OPERATION = re.compile(r"(?i)operation (started|completed)\b")
_HOOKS = {"before_lease_hook": "beforeLease hook", "after_lease_hook": "afterLease hook"}


class LogEntry(NamedTuple):
    """
    One message in the log of the exporter.

    Attributes:
        moment: The Unix time at which it arrived here.
        level: The name of its level, as in `logging`.
        source: driver, system, before_lease_hook or after_lease_hook.
        message: Its text.
        details: What else the exporter says of it: driver_type, operation, … (after 0.9).
    """

    moment: float
    level: str
    source: str
    message: str
    details: Mapping[str, object] = MappingProxyType({})

    @property
    def is_of_call(self) -> bool:
        """Whether it tells that a driver call has started or completed; there are two of these for every call."""
        return "operation" in self.details and _OPERATION.match(self.message) is not None

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
        self._first_of_driver = math.inf
        self._tunnel: Tunnel | None = None
        self._at_hook: Future[None] | None = None
        self._reading: Future[None] | None = None
        self._followers: list[Callable[[LogEntry], None]] = []
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

    def share(self, client: DriverClient) -> None:
        """Make `log_stream` of a driver client follow this log: a second reader would get a part of the entries."""
        if hasattr(client, "log_stream_async"):
            client.log_stream_async = self.log_stream_async  # type: ignore[method-assign, unused-ignore]

    @asynccontextmanager
    async def log_stream_async(self, show_all_logs: bool = True) -> AsyncIterator[None]:
        """Log what arrives meanwhile to the loggers of Jumpstarter's method of this name."""

        def follow(entry: LogEntry) -> None:
            if show_all_logs or entry.source in _LOGGERS:
                name = _LOGGERS.get(entry.source, f"exporter:{entry.source}")
                logging.getLogger(name).log(logging.getLevelName(entry.level), "%s", entry.message)

        self._followers.append(follow)
        try:
            yield
        finally:
            self._followers.remove(follow)

    def since_test(self) -> list[LogEntry]:
        """Return the entries of the current test, as far as they are kept."""
        return [entry for number, entry in list(self._entries) if number >= self.since]

    def to_show(self) -> list[LogEntry]:
        """
        Return the entries of the current test for people.

        An exporter begins each lease with messages about itself. They are left out, up to the first message of a
        driver, unless they are warnings. So are those that tell the start and end of each driver call.
        """
        return [
            entry
            for number, entry in list(self._entries)
            if number >= self.since
            and not entry.is_of_call
            and (number >= self._first_of_driver or entry.source != "system" or entry.level not in _NO_WARNING)
        ]

    def settle(self) -> None:
        """Wait a moment for entries that the exporter has just written."""
        start = real_time.monotonic()
        while real_time.monotonic() < min(max(start, self._last) + _QUIET, start + _SETTLED):
            real_time.sleep(0.02)

    def last_words(self, hook: Hook = "before_lease_hook") -> str:
        """Return the last lines of a hook's output, indented; wait a moment for them to arrive."""
        start = real_time.monotonic()
        while real_time.monotonic() < start + LAST_WORDS_TIMEOUT and not self._has_heard(hook, start):
            real_time.sleep(0.02)
        said = [entry.message for _, entry in list(self._entries) if entry.source == hook]
        return "".join(f"\n    {line}" for line in said[-_LAST_WORDS:])

    def _has_heard(self, hook: Hook, start: float) -> bool:
        """Return whether the output of the hook has arrived, and nothing more for a moment since `start`."""
        reading = self._at_hook if hook == "before_lease_hook" else self._reading
        if reading is not None and reading.done():
            return True
        is_quiet = real_time.monotonic() - max(start, self._last) > _QUIET
        return is_quiet and any(entry.source == hook for _, entry in list(self._entries))

    def stop(self) -> None:
        """Stop reading, and close the tunnel; a second call does nothing."""
        for reading in filter(None, (self._at_hook, self._reading)):
            reading.cancel()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            with suppress(TimeoutError):
                self._portal.start().start_task_soon(tunnel.close).result(LAST_WORDS_TIMEOUT)

    async def _read_tunnel(self, tunnel: Tunnel) -> None:
        from pytest_jumpstarter.device.channel_target import ChannelTarget

        try:
            async with ChannelTarget.of_socket(await tunnel.open()).aio_channel() as channel:
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
        from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc

        from pytest_jumpstarter.client.v1.facts import value_names

        names = value_names(jumpstarter_pb2.LogStreamResponse, "source", prefix="LOG_SOURCE_")
        async for entry in jumpstarter_pb2_grpc.ExporterServiceStub(channel).LogStream(empty_pb2.Empty()):
            if entry is None:  # grpc.aio's for one that cannot be read
                continue
            source = names.get(entry.source, "SYSTEM").lower()
            level = entry.severity if isinstance(logging.getLevelName(entry.severity), int) else "INFO"
            text = first_characters(entry.message, _CHARACTERS)
            self._keep(LogEntry(real_time.time(), level, source, text, _details(entry)))

    def _keep(self, entry: LogEntry) -> None:
        self._entries.append((self.end, entry))
        if entry.source == "driver" and not entry.is_of_call:
            self._first_of_driver = min(self._first_of_driver, self.end)
        self.end += 1
        self._last = real_time.monotonic()
        hook = f"{_HOOKS[entry.source]}: " if entry.source in _HOOKS else ""
        logger = logging.getLogger(f"{LOGGER}.{self._role}.{entry.source}")
        level = logging.DEBUG if entry.is_of_call else logging.getLevelName(entry.level)
        logger.log(level, "%s%s", hook, entry.message)
        for follower in list(self._followers):
            follower(entry)


def _details(entry: Any) -> dict[str, object]:
    """Return the fields of a log entry that the stubs of 0.9 do not have."""
    if all(field.name in _FIELDS for field, _ in entry.ListFields()):
        return {}
    from google.protobuf import json_format

    fields = json_format.MessageToDict(entry, preserving_proto_field_name=True)
    return {name: value for name, value in fields.items() if name not in _FIELDS}

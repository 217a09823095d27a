"""
Watches over calls that hear nothing: whether their exporter is still there, asked on a path of its own.

While a driver call or the `expect` of a console is under way and nothing comes from the exporter, it is asked over a
connection of its own through the tunnel; never while anything comes, so that no transfer is slowed down.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import DeviceUnreachable

if TYPE_CHECKING:
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.tunnel import Tunnel
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.leasing.health import Health

QUIET = 3.0
"""Seconds for which a call must have heard nothing before the exporter is asked."""

PING_TIMEOUT = 2.0
"""Seconds for its answer, and from one question to the next."""

WARN_AFTER = 60.0
"""Seconds of silence after which people are told."""

_LOOK_INTERVAL = 1.0


class CallWatch:
    """
    Watches over the calls of one device, in a daemon thread, until it is stopped.

    Args:
        role: The role of the device.
        health: Told when the exporter did not answer, and of the loss.
        ttl: Seconds without any answer after which the device is lost.
        events: Told of a long silence, and of the loss.
    """

    def __init__(
        self,
        role: str,
        health: Health,
        connection: ExporterConnection,
        tunnel: Tunnel,
        *,
        ttl: float,
        events: Events,
    ) -> None:
        self._role = role
        self._health = health
        self._connection = connection
        self._tunnel = tunnel
        self._ttl = ttl
        self._events = events
        self._stopped = threading.Event()
        self._heard = -math.inf  # when anything but an answer to us came last
        self._ours = -math.inf  # when our last question was over
        self._mute_since = math.inf
        self._warned_of = -math.inf  # the call that people were told of

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="jumpstarter-call-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more; a question that is under way ends by its own timeout."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_INTERVAL):
            began = min(tuple(self._connection.calls.values()), default=None)
            if began is None or self._health.loss is not None:
                self._mute_since = math.inf
            elif (quiet := self._quiet_for(began)) >= QUIET:
                self._ask()
                self._warn(began, quiet)

    def _quiet_for(self, began: float) -> float:
        """Return for how many seconds a call has heard nothing."""
        if self._tunnel.heard > self._ours:
            self._heard, self._mute_since = self._tunnel.heard, math.inf
        return time.monotonic() - max(began, self._heard)

    def _ask(self) -> None:
        """Ask the exporter, and note if it does not answer; one that is silent for too long is lost."""
        began = time.monotonic()
        has_answered = self._connection.ping(PING_TIMEOUT)
        self._ours = now = time.monotonic()
        if has_answered:
            self._mute_since = math.inf
            self._stopped.wait(began + PING_TIMEOUT - now)
        elif not self._stopped.is_set():
            self._health.unanswered = now
            self._mute_since = min(self._mute_since, began)
            if now - self._mute_since >= self._ttl:
                self._lose(now - self._mute_since)

    def _warn(self, began: float, quiet: float) -> None:
        if quiet < WARN_AFTER or began == self._warned_of:
            return
        self._warned_of = began
        state = "answers" if self._mute_since == math.inf else "does not answer"
        self._events.say(f"{self._role}: nothing came for {format_duration(quiet)}; the exporter {state}")

    def _lose(self, silence: float) -> None:
        self._health.lose(DeviceUnreachable(f"{self._health.name} has answered nothing for {format_duration(silence)}"))
        if self._health.loss is not None:
            self._events.on_loss(self._role, self._health.loss)

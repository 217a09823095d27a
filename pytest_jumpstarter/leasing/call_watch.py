"""
Pings the exporter while a call waits and nothing comes from it.

A driver call or the `expect` of a console may wait for long. After `QUIET` seconds of silence the exporter is pinged,
through a tunnel over a separate connection. It is not pinged while data comes through the tunnel, so that no transfer
is slowed down. Without a tunnel it is not known whether data comes, so the exporter is pinged anyway.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.leasing.health import Health

QUIET = 1.0
"""Seconds of silence after which the exporter is pinged."""

PING_TIMEOUT = 2.0
"""Seconds for the answer to a ping, and from one ping to the next."""

WARN_AFTER = 60.0
"""Seconds of silence after which the user is warned."""

_LOOK_INTERVAL = 0.5


class CallWatch:
    """
    Watches the calls of one device, in a daemon thread, until it is stopped.

    Args:
        role: The role of the device.
        health: Pings the exporter, and records the loss.
        connection: The connection, with its calls.
        events: Notified of a long silence, and of the loss.
    """

    def __init__(self, role: str, health: Health, connection: ExporterConnection, *, events: Events) -> None:
        self._role = role
        self._health = health
        self._connection = connection
        self._events = events
        self._stopped = threading.Event()
        self._heard = -math.inf  # the last time of data that was no answer to a ping
        self._last_ping = -math.inf  # the end of the last ping
        self._warned_of = -math.inf  # the call that the user was warned of

    def start(self) -> None:
        """Start to watch."""
        threading.Thread(target=self._run, name="jumpstarter-call-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop to watch; a ping in progress ends by its own timeout."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_INTERVAL):
            began = min(tuple(self._connection.calls.values()), default=None)
            if began is not None and self._health.loss is None and (quiet := self._quiet_for(began)) >= QUIET:
                self._ping()
                self._warn(began, quiet)

    def _quiet_for(self, began: float) -> float:
        """Return for how many seconds a call has received nothing."""
        if self._connection.heard > self._last_ping:
            self._heard = self._connection.heard
        return real_time.monotonic() - max(began, self._heard)

    def _ping(self) -> None:
        """Ping the exporter; if it has been silent for too long, the device is lost."""
        began = real_time.monotonic()
        has_answered = self._health.ping(PING_TIMEOUT)
        self._last_ping = real_time.monotonic()
        if has_answered:
            self._stopped.wait(began + PING_TIMEOUT - self._last_ping)
        elif not self._stopped.is_set() and (loss := self._health.loss_by_silence()) is not None:
            self._health.lose(loss)
            self._events.on_loss(self._role, self._health.loss or loss)

    def _warn(self, began: float, quiet: float) -> None:
        if quiet < WARN_AFTER or began == self._warned_of:
            return
        self._warned_of = began
        state = "does not answer" if self._health.is_silent else "answers"
        self._events.say(f"{self._role}: a call has waited for {format_duration(quiet)}; the exporter {state}")

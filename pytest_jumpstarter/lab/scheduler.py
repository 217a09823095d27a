"""
The life of leases: assign, release, expire.

As in the production controller every change has two steps. A call notes the request and returns. Then `reconcile` goes
through the open leases and carries it out: it assigns exporters, and ends leases that were released or have expired. So
the answer to CreateLease has no conditions, but the first look at the lease finds its exporter, if one is free; and a
deleted lease exists for a moment longer.

A lease that has to wait is looked at again each second, whatever happens meanwhile. So a board goes from one lease to
the next within a second, as with Jumpstarter 0.9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pytest_jumpstarter.lab.model import Exporter, Lease, Model, Status, StatusFeed
from pytest_jumpstarter.lab.selection import Verdict, select_exporter

OFFLINE_AFTER = 60.0

_MOMENT = 0.01  # seconds between a change and its effect; so no client can rely on an immediate effect
_LOOK_AGAIN = 1.0  # seconds after which a pending lease is looked at again


class Scheduler:
    """
    Carries out what was requested for leases and exporters.

    Args:
        model: The state of the lab.
        on_end: Called with each lease when it ends.
        assign_delay: Seconds by which each new lease is delayed, as if the controller was busy.
        offline_after: Seconds without a sign of life after which an exporter is offline.
    """

    def __init__(
        self,
        model: Model,
        *,
        on_end: Callable[[Lease], None],
        assign_delay: float = 0.0,
        offline_after: float = OFFLINE_AFTER,
    ) -> None:
        self.model = model
        self._on_end = on_end
        self._assign_delay = assign_delay
        self._offline_after = offline_after
        self._timer: asyncio.TimerHandle | None = None

    def add(self, lease: Lease) -> None:
        """Add a new lease, which gets an exporter before anybody can look at it, if one is free."""
        self.model.add(lease)
        self._arm(0.0)

    def wake(self) -> None:
        """Reconcile all open leases in a moment."""
        self._arm(_MOMENT)

    def change(self, lease: Lease) -> None:
        """Carry out a change of the request of a lease in a moment, even if the lease is pending."""
        lease.generation += 1
        lease.next_look = 0.0
        self.wake()

    def release(self, lease: Lease) -> None:
        """Mark a lease for release."""
        lease.is_released = True
        self.change(lease)

    def transfer(self, lease: Lease, client: str) -> None:
        """Transfer a lease to another client, and notify its exporter."""
        lease.client = client
        if lease.exporter and not lease.is_ended:
            self.model.exporters[lease.exporter].notify()

    def reconcile(self) -> None:
        """Bring all open leases up to date, and set the timer for the next change."""
        self._timer = None
        now = time.time()
        due = [time_ for lease in list(self.model.open_leases.values()) if (time_ := self._step(lease, now))]
        if due:
            self._arm(max(min(due) - now, 0.0))

    def see(self, exporter: Exporter) -> None:
        """Note a sign of life; if no other follows, the exporter is offline after some time."""
        loop = asyncio.get_running_loop()
        exporter.last_seen = loop.time()
        loop.call_later(self._offline_after, self._check_alive, exporter, exporter.last_seen)

    def connect(self, exporter: Exporter) -> StatusFeed:
        """Open a feed for a Status stream; its first message is the current state."""
        feed = StatusFeed()
        self.see(exporter)
        if exporter.status is Status.OFFLINE:
            exporter.set_status(Status.UNSPECIFIED, "")
        exporter.feeds.append(feed)
        exporter.notify()
        self.wake()
        return feed

    def disconnect(self, exporter: Exporter, feed: StatusFeed) -> None:
        """Close a feed; the exporter will be offline after some time."""
        exporter.feeds.remove(feed)
        self.see(exporter)

    def confirm_idle(self, exporter: Exporter, feed: StatusFeed) -> None:
        """Note that `leased=false` was sent to an exporter; only its newest stream counts."""
        if feed is exporter.feeds[-1] and exporter.lease is None and not exporter.has_seen_idle:
            exporter.has_seen_idle = True
            self.wake()

    def report(self, exporter: Exporter, status: Status, message: str) -> None:
        """Set the status that an exporter reported."""
        self.see(exporter)
        exporter.set_status(status, message)
        self.wake()

    def _step(self, lease: Lease, now: float) -> float | None:
        """Bring one lease up to date; return the time of its next change, if time alone causes one."""
        later = None if lease.exporter or lease.is_released else self._assign(lease, now)
        expiry = lease.expiry
        if lease.has_condition("Unsatisfiable"):
            self._end(lease)
        elif lease.is_released:
            self._refresh_pending(lease, now)
            lease.set_condition("Ready", False, "Released", "The lease was marked for release")
            self._end(lease)
        elif expiry is not None and expiry <= now:
            lease.set_condition("Ready", False, "Expired", "The lease has expired")
            self._end(lease)
        else:
            return expiry or later
        return None

    def _assign(self, lease: Lease, now: float) -> float | None:
        """Assign an exporter, or set a condition with the reason; return the begin time if it is too early."""
        earliest = max(lease.begin_time or 0.0, lease.created + self._assign_delay, lease.next_look)
        if earliest > now:
            return earliest
        choice = select_exporter(lease, self.model.exporters)
        if isinstance(choice, Verdict):
            lease.set_condition(choice.type, True, choice.reason, choice.message)
            lease.next_look = now + _LOOK_AGAIN
            return lease.next_look
        lease.exporter, lease.assigned = choice.name, now
        lease.set_condition("Ready", True, "Ready", "An exporter has been acquired for the client")
        choice.lease, choice.has_seen_idle = lease, False
        choice.notify()
        return None

    def _refresh_pending(self, lease: Lease, now: float) -> None:
        """Note that a pending lease was looked at after its last change."""
        pending = lease.conditions.get("Pending")
        if pending and lease.exporter is None and (lease.begin_time or 0.0) <= now:
            pending.generation = lease.generation

    def _end(self, lease: Lease) -> None:
        lease.ended = time.time()
        del self.model.open_leases[lease.name]
        if lease.exporter:
            exporter = self.model.exporters[lease.exporter]
            exporter.lease = None
            exporter.notify()
            self.wake()
        self._on_end(lease)

    def _check_alive(self, exporter: Exporter, seen: float) -> None:
        if exporter.feeds or exporter.last_seen != seen or exporter.status is Status.OFFLINE:
            return
        ago = "1 minute" if self._offline_after == OFFLINE_AFTER else f"{self._offline_after:g} seconds"
        exporter.set_status(Status.OFFLINE, f"Connection lost - last seen more than {ago} ago")
        self.wake()

    def _arm(self, delay: float) -> None:
        """Reconcile after `delay` seconds, unless the timer is already set to an earlier time."""
        loop = asyncio.get_running_loop()
        if self._timer and self._timer.when() <= loop.time() + delay:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = loop.call_later(delay, self.reconcile)

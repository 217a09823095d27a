"""
`OwnLease`: a lease of ours from request to release.

Only the process that created a lease releases it.
"""

from __future__ import annotations

import math
import os
import threading

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    DeviceError,
    JumpstarterError,
    LeaseLost,
    MethodUnavailable,
    NotFound,
    RequestError,
    TransportError,
)
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease import EXTEND_TIMEOUT, ManagedLease, Reservation
from pytest_jumpstarter.leasing.lease_request import DEFAULT_DURATION, LeaseIds, LeaseRequest, Terms, Wanted
from pytest_jumpstarter.leasing.release import RELEASE_TIMEOUT, delete
from pytest_jumpstarter.leasing.waiting import attempts


class OwnLease(ManagedLease):
    """
    One lease of ours.

    Args:
        terms: For how long it is asked for, and held at most.
        ids: Gives it a name that was never used before.
        events, connector, since: See `ManagedLease`.
    """

    is_ours = True

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        request: LeaseRequest,
        *,
        terms: Terms,
        ids: LeaseIds,
        events: Events,
        connector: Connector,
        since: float | None = None,
    ) -> None:
        super().__init__(client, wanted, ids.next(), events=events, connector=connector, since=since)
        self._request = request
        self._terms = terms
        self.ttl = terms.ttl
        self._ids = ids
        self._events = events
        self._owner = 0
        self._is_created = False
        self._lock = threading.Lock()
        self._extension = threading.Lock()

    @property
    def has_lost_tags(self) -> bool:
        """Whether it was asked for with tags and has none: stubs or lab controllers before 0.9 drop them silently."""
        return bool(self._request.tags) and self.lease is not None and not self.lease.tags

    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Request the lease, if that is not done, and wait for it as every lease is waited for; then extend it once.

        Source: jumpstarter.client.v1.ClientService CreateLease, GetLease, UpdateLease
        """
        with self._or_given_back():
            if not self._is_created:
                self._request_lease()
            if not self._until_ready(patience):
                return False
            if not self._can_extend():
                self._start_over()
        return True

    def extend(self, timeout: float) -> None:
        """
        Make the lease last the time to live from now, by the lab controller's own count of what has passed.

        Raises:
            LeaseLost: It has been held as long as `--jmp-max-hold` allows.
        Source: jumpstarter.client.v1.ClientService UpdateLease; `duration` is the total since Ready, never shortened
        """
        with self._extension:  # the one that is sent last counts, and it may be shorter
            self._extend(timeout)

    def _extend(self, timeout: float) -> None:
        assert self.lease is not None
        managed, asked = self._held_for(), self.lease.duration or 0.0
        limit = self._terms.max_hold
        if limit is not None and managed >= limit:
            raise self._held_long_enough(managed)
        total = min(managed + self._terms.ttl, limit or math.inf)
        if total > asked and os.getpid() == self._owner:
            self.lease = self._client.update_lease(self.name, duration=total, timeout=timeout)

    def reserve(self, duration: float) -> Reservation:
        """Leave the lease to people: from here on no layer gives it back."""
        with self._lock, self._extension:
            left, limit = self._left(), self._terms.max_hold
            managed = self._held_for()
            total, note = managed + duration, ""
            if limit is not None and total > limit:
                total, note = limit, "--jmp-max-hold allows no more"
            if total > managed + left:
                try:
                    self.lease = self._client.update_lease(self.name, duration=total, timeout=EXTEND_TIMEOUT)
                    left = total - managed
                except MethodUnavailable:
                    note = "the lab controller cannot extend leases"
            self._owner, self.is_reserved = 0, True
            return self._reservation(left, note)

    def look(self, timeout: float) -> DeviceError | None:
        """Ask as every lease is asked, and watch the longest time it may be held."""
        loss, limit = super().look(timeout), self._terms.max_hold
        is_ended = self.lease is not None and self.lease.is_ended  # by itself, where it was asked for the longest time
        if limit is not None and (loss is None or is_ended) and self._held_for() >= limit:
            return self._held_long_enough(limit)
        return loss

    def _held_long_enough(self, duration: float) -> LeaseLost:
        return LeaseLost(f"lease {self.name} was held for {format_duration(duration)}, all that --jmp-max-hold allows")

    def release(self, *, confirm: bool = True) -> None:
        """
        Give the lease back and see it ended; a second call, or one in a forked child, does nothing.

        Two threads may call this; the second waits for the first. A failure is kept in `failure`, with the command that
        would do it by hand.

        Args:
            confirm: Whether to wait until the lab controller shows the lease as ended.
        Source: jumpstarter.client.v1.ClientService DeleteLease, GetLease
        """
        with self._lock:
            if self._owner != os.getpid():
                return
            try:
                was_there = delete(self._client, self.name, is_created=self._is_created)
                self._owner = 0  # and not before: an interrupt in between leaves it to the next call
                if was_there and confirm:
                    self._confirm()
            except RequestError as exc:
                self._owner = 0
                self.failure = (
                    f"lease {self.name} may still be held: {exc}; to release it: jmp delete leases {self.name}"
                )

    def _request_lease(self) -> None:
        self._owner = os.getpid()  # from here on there may be a lease
        self.lease = self._create()
        self.name, self._is_created = self.lease.name, True  # the name it came back with is the one that counts
        self._connector.warm_up()

    def _can_extend(self) -> bool:
        """Extend the lease for the first time; tell whether the lab controller knows how."""
        try:
            self.extend(EXTEND_TIMEOUT)
        except MethodUnavailable:
            return False
        except TransportError:
            pass  # it is away for a moment; the keeper goes on trying
        return True

    def _start_over(self) -> None:
        """Lease for a fixed time instead, since the lab controller is too old to extend a short one."""
        self._events.say(
            f"the lab controller cannot extend leases: asking for {format_duration(DEFAULT_DURATION)}; "
            "a board stays leased so long if this process dies"
        )
        self.release()
        self.name, self._is_created = self._ids.next(), False
        self._request.duration = DEFAULT_DURATION
        self._request_lease()
        self._until_ready(math.inf)

    def _create(self) -> Lease:
        """Ask for the lease; where the answer rules out that there is one, there is nothing to give back either."""
        try:
            return self._client.create_lease(
                lease_id=self.name,
                selector=self._request.selector,
                exporter_name=self._request.exporter,
                duration=self._request.duration,
                tags=self._request.tags,
                context=self._request.context,
            )
        except JumpstarterError as exc:
            response = exc.response if isinstance(exc, RequestError) else None
            if response is None or not response.leaves_open:  # without an answer, nothing was sent
                self._owner = 0
            raise

    def _confirm(self) -> None:
        """Wait until the lab controller shows the lease as ended: deleting only asks for it."""
        for _ in attempts(RELEASE_TIMEOUT):
            try:
                self.lease = self._client.get_lease(self.name)
            except NotFound:
                return
            if self.lease.is_ended:
                return
        self.failure = (
            f"lease {self.name} was released but is still active after {RELEASE_TIMEOUT:.0f}s; "
            f"to release it: jmp delete leases {self.name}"
        )

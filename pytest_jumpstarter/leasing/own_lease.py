"""
`OwnLease`: a lease of this process, from request to release.

Only the process that created a lease releases it.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client, Exporter, Lease
from pytest_jumpstarter.client.v1.lease_creation import ID_TAG
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    AlreadyExists,
    DeviceError,
    InvalidArgument,
    JumpstarterError,
    LeaseLost,
    MethodUnavailable,
    NotFound,
    PermissionDenied,
    RequestError,
)
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease import EXTEND_TIMEOUT, ManagedLease, Reservation
from pytest_jumpstarter.leasing.lease_request import DEFAULT_DURATION, LeaseIds, LeaseRequest, Terms, Wanted
from pytest_jumpstarter.leasing.own_tags import OwnTags
from pytest_jumpstarter.leasing.patience import CONTROLLER_GRACE
from pytest_jumpstarter.leasing.release import RELEASE_TIMEOUT, delete
from pytest_jumpstarter.leasing.waiting import attempts


class OwnLease(ManagedLease):
    """
    A lease that this process requests, extends and releases.

    Args:
        terms: Its time to live, and the longest time that it may be in use.
        ids: Provides a name that was never used before.
        tags: What this plugin has added to the tags of `request`.
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
        tags: OwnTags,
        events: Events,
        connector: Connector,
        since: float | None = None,
    ) -> None:
        self._id = ids.next()
        super().__init__(client, wanted, self._id, events=events, connector=connector, ttl=terms.ttl, since=since)
        self._request = request
        self._terms = terms
        self.ttl = terms.ttl
        self._ids = ids
        self._tags = tags
        self._events = events
        self._owner_pid = 0
        self._is_created = False
        self._may_exist = False
        self._lock = threading.Lock()
        self._extension = threading.Lock()

    @property
    def has_lost_tags(self) -> bool:
        """Whether its tags were lost: stubs and lab controllers older than 0.9 drop them silently."""
        return bool(self._tags.of(self._request, self._id)) and self.lease is not None and not self.lease.tags

    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Request the lease unless that was done, wait until it is Ready, and extend it once.

        Source: jumpstarter.client.v1.ClientService CreateLease, GetLease, UpdateLease
        """
        with self._released_on_error():
            if not self._is_created:
                self._request_lease()
            if not self._until_ready(patience):
                return False
            if not self._can_extend():
                self._start_over()
        return True

    def extend(self, timeout: float) -> None:
        """
        Make the lease last for the time to live from now; the lab controller counts how long it has lasted.

        Raises:
            LeaseLost: It has been in use for as long as `--jmp-max-hold` allows.
        Source: jumpstarter.client.v1.ClientService UpdateLease; `duration` is the total since Ready, never shortened
        """
        with self._extension:  # the last request wins, and it may be the shorter one
            self._extend(timeout)

    def _extend(self, timeout: float) -> None:
        assert self.lease is not None
        used, requested = self._leased_for(), self.lease.duration or 0.0
        limit = self._terms.max_hold
        if limit is not None and used >= limit:
            raise self._max_hold_reached(used)
        total = min(used + self._terms.ttl, limit or math.inf)
        if total <= requested or os.getpid() != self._owner_pid:
            return
        try:
            self.lease = self._client.update_lease(self.name, duration=total, timeout=timeout)
        except RequestError as exc:
            self.extension_failure = str(exc)
            raise
        self.extension_failure = ""

    def reserve(self, duration: float) -> Reservation:
        """Keep the lease for people, for `duration` seconds more: from now on nothing here releases it."""
        with self._lock, self._extension:
            left, limit = self._left(), self._terms.max_hold
            used = self._leased_for()
            total, note = used + duration, ""
            if limit is not None and total > limit:
                total, note = limit, "--jmp-max-hold allows no more"
            if total > used + left:
                try:
                    self.lease = self._client.update_lease(self.name, duration=total, timeout=EXTEND_TIMEOUT)
                    left = total - used
                except MethodUnavailable:
                    note = "the lab controller cannot extend leases"
            self._owner_pid, self.is_reserved = 0, True
            return self._reservation(left, note)

    def _when_exporter_ready(self, lease: Lease) -> Exporter:
        try:
            return super()._when_exporter_ready(lease)
        except LeaseLost as exc:
            limit = self._terms.max_hold
            held = real_time.monotonic() - self._ready_since + 1.0  # the lab controller's times are whole seconds
            if limit is not None and held >= limit:
                raise self._max_hold_reached(limit) from exc
            raise

    def look(self, timeout: float, *, with_exporter: bool = True) -> DeviceError | None:
        """Check the lease and its exporter, and also `--jmp-max-hold`."""
        loss, limit = super().look(timeout, with_exporter=with_exporter), self._terms.max_hold
        is_ended = self.lease is not None and self.lease.is_ended  # also by itself, if its duration was the limit
        if limit is not None and (loss is None or is_ended) and self._leased_for() >= limit:
            return self._max_hold_reached(limit)
        return loss

    def _max_hold_reached(self, duration: float) -> LeaseLost:
        return LeaseLost(f"lease {self.name} was held for {format_duration(duration)}, all that --jmp-max-hold allows")

    def release(self, *, is_urgent: bool = False) -> None:
        """
        Release the lease and wait until it has ended; a second call, or one in a forked child, does nothing.

        Two threads may call this: the second waits for the first. A failure is stored in `failure`, with the command
        that releases the lease by hand. If the lease may exist under a name that is not known, `failure` says so.

        Args:
            is_urgent: Whether a signal has arrived: then failures are tried again for a shorter time, as for a request
                that was never answered, and the end of the lease is not confirmed.
        Source: jumpstarter.client.v1.ClientService DeleteLease, GetLease, ListLeases
        """
        with self._lock:
            if self._owner_pid != os.getpid():
                return
            try:
                is_known = self._is_created and not is_urgent
                timeout = CONTROLLER_GRACE if is_known else RELEASE_TIMEOUT
                found = delete(
                    self._client,
                    self.name,
                    lease_id=self._id,
                    is_created=self._is_created,
                    timeout=timeout,
                    say=self._events.say,
                )
                self._owner_pid = 0  # not earlier: after an interrupt, the next call tries again
                if found:
                    self.name = found
                self.failure = self._doubt()
                if found and not is_urgent:
                    self._confirm()
            except RequestError as exc:
                self._owner_pid = 0
                if isinstance(exc, PermissionDenied) and self._is_of_another_client():
                    return
                self.failure = (
                    f"lease {self.name} may still be held: {exc}; to release it: jmp delete leases {self.name}"
                )

    def _doubt(self) -> str:
        """Return that there may be a lease which cannot be found: it has no tag, and may have any name."""
        is_settled = self._is_created and not self._may_exist
        if is_settled or self._client.keeps_ids or self._is_findable:
            return ""
        return (
            f"it is unknown whether lease {self._id} exists: its request was not answered, it has no tags, and the lab "
            "controller may have named it otherwise; jmp get leases shows it"
        )

    @property
    def _is_findable(self) -> bool:
        return self._client.supports("Lease.tags") and ID_TAG in self._tags.of(self._request, self._id)

    def _is_of_another_client(self) -> bool:
        """Return whether the lease is known to belong to another client now; then it must not be released here."""
        with suppress(RequestError):
            self.lease = self._client.get_lease(self.name, timeout=RELEASE_TIMEOUT)
        return self.lease is not None and self.lease.client != self._client.name

    def _request_lease(self) -> None:
        self.lease = self._waiter.until_requested(self._create)
        self.name, self._is_created = self.lease.name, True  # the lab controller may have chosen another name
        self._connector.warm_up()

    def _can_extend(self) -> bool:
        """Extend the lease for the first time; return whether the lab controller can extend leases."""
        try:
            self.extend(EXTEND_TIMEOUT)
        except MethodUnavailable:
            return False
        except RequestError as exc:
            if exc.finality == "final":
                raise
        return True  # after other failures, the keeper tries again

    def _start_over(self) -> None:
        """Request a lease for a fixed time instead, because the lab controller is too old to extend a short one."""
        self._events.say_once(
            f"the lab controller cannot extend leases: asking for {format_duration(DEFAULT_DURATION)}; "
            "if this process dies, the board stays leased for that time"
        )
        self.release()
        self.name = self._id = self._ids.next()
        self._is_created, self._may_exist = False, False
        self._request.duration = DEFAULT_DURATION
        self._request_lease()
        self._until_ready(math.inf)

    def _create(self, timeout: float) -> Lease:
        """Create the lease; if the error shows that it was not created, nothing has to be released."""
        self._owner_pid = os.getpid()  # from now on the lease may exist
        try:
            return self._client.create_lease(
                lease_id=self._id,
                selector=self._request.selector,
                exporter_name=self._request.exporter,
                duration=self._request.duration,
                tags=self._tags.of(self._request, self._id),
                context=self._request.context,
                allow_disabled=self._request.allow_disabled,
                may_exist=self._may_exist,
                timeout=timeout,
            )
        except AlreadyExists:
            if not self._may_exist:
                raise
            return self._lease_of_earlier_request(timeout)
        except JumpstarterError as exc:
            if isinstance(exc, InvalidArgument) and self._tags.drop(exc):
                return self._create(timeout)
            response = exc.response if isinstance(exc, RequestError) else None
            self._may_exist = self._may_exist or (response is not None and response.leaves_open)
            if not self._may_exist:  # without a response, nothing was sent
                self._owner_pid = 0
            raise

    def _lease_of_earlier_request(self, timeout: float) -> Lease:
        """Return the lease that an earlier request created although its response was lost."""
        lease = self._client.get_lease(self._id, timeout=timeout)
        if lease.client != self._client.name:
            self._owner_pid = 0
            raise LeaseLost(f"lease {self.name} belongs to client {lease.client!r}, not to {self._client.name!r}")
        return lease

    def _confirm(self) -> None:
        """Wait until the lab controller shows the lease as ended, because DeleteLease only requests it."""
        is_active = False
        for _ in attempts(RELEASE_TIMEOUT):
            try:
                self.lease = self._client.get_lease(self.name, timeout=RELEASE_TIMEOUT)
            except NotFound:
                return
            except RequestError:
                continue
            if self.lease.is_ended:
                return
            is_active = True
        if is_active:
            self.failure = (
                f"lease {self.name} was released but is still active after {RELEASE_TIMEOUT:.0f}s; "
                f"to release it: jmp delete leases {self.name}"
            )

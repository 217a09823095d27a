"""
Waiting for a lease: until it is requested, until it is Ready, until its exporter is, until Dial succeeds.

Every wait has an end. What the lab controller cannot do for a while is tried again; see `patience`.

Source: the state table of `Lease.conditions` and `Exporter.status` (lease_controller.go, common.proto)
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from pytest_jumpstarter.client.v1 import Client, Condition, Exporter, Lease, Route
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    DeviceUnreachable,
    ExporterOffline,
    Finality,
    HookFailed,
    JumpstarterError,
    LeaseLost,
    LeaseTimeout,
    LeaseUnsatisfiable,
    NotFound,
    NotReady,
    PermissionDenied,
    RequestError,
)
from pytest_jumpstarter.leasing.availability import describe_candidates, hint_for
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import DEFAULT_TTL, Wanted
from pytest_jumpstarter.leasing.patience import Patience
from pytest_jumpstarter.leasing.polling import next_survey, polls

T = TypeVar("T")

AFTER_HOOK_TIMEOUT = 120.0
"""Seconds for an afterLease hook: the default timeout of a hook in the exporter's config."""

_HOOK_STARTS = 0.5  # seconds until an exporter knows that its lease has ended

HOOK_TIMEOUT = 300.0
"""Seconds from a Ready lease to a ready exporter: a beforeLease hook may flash a board."""

DIAL_TIMEOUT = 30.0
"""Seconds until the first Dial of a lease succeeds."""

CONTROLLER_GRACE = 20.0
"""
Seconds for which trouble of the lab controller is tried again: by a run that never got an answer, by a Dial that
connects anew, and when a lease is released.
"""

DECISION_TIMEOUT = 10.0
"""Seconds for the lab controller to decide on a lease that the run can do without."""

CALL_TIMEOUT = 10.0
"""Seconds for one request of a wait, or what is left of the wait if that is less."""

_QUIET = 1.0

EXPORTER_RESTART = 5.0
"""
Seconds for an exporter to accept connections again.

Exporters do not outlive a longer absence, and one that starts anew has other drivers than those of the lease.
"""


def attempts(timeout: float, *, stopped: threading.Event | None = None) -> Iterator[float]:
    """
    Yield the seconds since the start: immediately, then after pauses, until `timeout` has passed or `stopped` is set.

    Pauses start at 10 ms and grow by half each time: up to 50 ms in the first second, then up to 2 s; ± 20 %.
    """
    pause_ends = threading.Event() if stopped is None else stopped
    start, pause = time.monotonic(), 0.01
    while True:
        yield (elapsed := time.monotonic() - start)
        left = start + timeout - time.monotonic()
        if left <= 0:
            return
        if pause_ends.wait(min(left, pause * random.uniform(0.8, 1.2))):
            return
        pause = min(0.05 if elapsed <= 1.0 else 2.0, pause * 1.5)


class Waiter:
    """
    Waits for one lease.

    Args:
        events: Told a line for people on every change, and from time to time who has the boards.
        ttl: Seconds that a lease lives without being extended: so long is trouble tried again once it is Ready.
        since: When the wait began by which `wanted.wait` counts, by `time.monotonic()`; None for the first wait.
    """

    def __init__(
        self, client: Client, wanted: Wanted, events: Events, *, ttl: float = DEFAULT_TTL, since: float | None = None
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._events = events
        self._ttl = ttl
        self._has_dialled = False
        self._since = since
        self._trouble: RequestError | None = None
        self._last_state: object = None
        self._next_survey = 0.0
        self._dice = random.Random()

    def until_requested(self, create: Callable[[float], Lease]) -> Lease:
        """
        Request the lease; try again what the lab controller cannot do for a while.

        Args:
            create: Sends the request, with the same lease id each time; it is given a timeout in seconds.

        Raises:
            LeaseTimeout: The lab controller had answered in this run, and did not for the rest of `wanted.wait`.
            RequestError: It refuses, or has never answered for `CONTROLLER_GRACE`.
        """
        before = self._waited()
        is_known = self._client.has_answered
        longest = self._wanted.wait - before if is_known else min(self._wanted.wait - before, CONTROLLER_GRACE)
        patience = Patience(longest, has_answered=is_known)
        for elapsed in attempts(max(0.0, longest)):
            lease = self._try(before + elapsed, partial(create, self._timeout(longest - elapsed)), patience)
            if lease is not None:
                return lease
        assert self._trouble is not None
        raise self._given_up(self._trouble, f"the lease for {self._wanted} cannot be requested")

    def until_ready(self, name: str, *, patience: float = math.inf) -> Lease | None:
        """
        Poll the lease until it is Ready; return None if it is still pending after `patience` seconds.

        If the lab controller has not set a condition yet, wait for at least `DECISION_TIMEOUT`.

        Raises:
            LeaseUnsatisfiable: No exporter can ever serve it.
            LeaseLost: It ended while it was waited for.
            LeaseTimeout: It is still pending after `wanted.wait`, or the lab controller did not tell for so long.
            RequestError: The lab controller refuses.
        """
        before = self._waited()
        asked = time.strftime("%H:%M:%S", time.localtime(time.time() - before))
        longest = max(0.0, self._wanted.wait - before)
        bearing = Patience(longest, has_answered=True)
        for waited in polls(longest):
            get_lease = partial(self._client.get_lease, name, timeout=self._timeout(longest - waited))
            lease = self._try(before + waited, get_lease, bearing, gone=f"lease {name} was deleted")
            if lease is None:
                continue
            if lease.is_ready:
                return lease
            if lease.refusal is not None:
                raise self._refused(name, lease.refusal)
            if lease.is_ended:
                raise LeaseLost(f"lease {name} ended before it was ready")
            if waited >= (patience if _pending(lease) else max(patience, DECISION_TIMEOUT)):
                return None
            self._report(before + waited, _pending(lease))
        why = self._trouble if self._trouble is not None else describe_candidates(self._client, self._wanted)
        raise LeaseTimeout(
            f"no exporter for {self._wanted} within {format_duration(self._wanted.wait)} "
            f"(--jmp-wait; asked at {asked}): {why}"
        )

    def until_exporter_ready(self, lease: Lease, on_hook: Callable[[], None]) -> Exporter:
        """
        Poll the exporter until its status is LEASE_READY; only then can it be dialled.

        An exporter older than 0.8 has no status: it is ready if it is online.

        Args:
            lease: The lease; its exporter is known.
            on_hook: Called once if a beforeLease hook is running.

        Raises:
            HookFailed: The beforeLease hook failed, or the exporter released the lease before it was ready.
            ExporterOffline: The exporter went offline.
            LeaseLost: The lease ended meanwhile.
            DeviceUnreachable: It is not ready after `HOOK_TIMEOUT`, or the lab controller does not tell for the time
                to live.
        """
        name, status = str(lease.exporter), "UNSPECIFIED"
        next_check = 1.0
        patience = Patience(self._ttl, holds_lease=True, has_answered=True)
        for elapsed in attempts(HOOK_TIMEOUT):
            get_exporter = partial(self._client.get_exporter, name, timeout=CALL_TIMEOUT)
            exporter = self._try(elapsed, get_exporter, patience, gone=f"exporter {name} was removed from the lab")
            if exporter is None:
                continue
            if _is_ready(exporter):
                return exporter
            _raise_if_failed(exporter)
            if elapsed > next_check:
                next_check = elapsed + 1.0
                self._raise_if_known_ended(lease.name, exporter)
            if exporter.status == "BEFORE_LEASE_HOOK" and status != exporter.status:
                on_hook()
            status = exporter.status
            self._report(elapsed, f"{name} is {status}")
        raise DeviceUnreachable(f"exporter {name} is not ready after {format_duration(HOOK_TIMEOUT)} (status {status})")

    def until_cleaned_up(self, name: str) -> str:
        """
        Wait until the exporter's afterLease hook, if it has one, has finished; the lease must have ended.

        Args:
            name: The name of the exporter.

        Returns:
            Why the hook failed, or that it is still running after `AFTER_HOOK_TIMEOUT`; empty if it succeeded.
        """
        patience = Patience(CONTROLLER_GRACE, has_answered=True)
        for elapsed in attempts(AFTER_HOOK_TIMEOUT):
            exporter = self._try(elapsed, lambda: self._client.get_exporter(name, timeout=CALL_TIMEOUT), patience)
            if exporter is None or (exporter.status == "LEASE_READY" and elapsed < _HOOK_STARTS):
                continue
            if exporter.status == "AFTER_LEASE_HOOK_FAILED":
                return f"exporter {name}: {exporter.status_message or 'afterLease hook failed'}"
            if exporter.status != "AFTER_LEASE_HOOK":
                return ""
            self._report(elapsed, f"the afterLease hook of {name} is running")
        return f"exporter {name}: its afterLease hook is still running after {format_duration(AFTER_HOOK_TIMEOUT)}"

    def dial(self, name: str, stopped: threading.Event) -> Route:
        """
        Ask the lab controller for a route to the exporter, again if one of the two is not ready for it yet.

        Args:
            name: The lease.
            stopped: Set when nobody needs the route any more.

        Raises:
            LeaseLost: The lease has ended, or belongs to another client.
            DeviceUnreachable: The exporter cannot be reached, or the lab controller cannot be asked, for
                `DIAL_TIMEOUT`. Once a Dial has succeeded: for `EXPORTER_RESTART`, or `CONTROLLER_GRACE`.
        """
        timeout = CONTROLLER_GRACE if self._has_dialled else DIAL_TIMEOUT
        patience = Patience(timeout, holds_lease=True, has_answered=True)
        refusal: RequestError | None = None
        for elapsed in attempts(timeout, stopped=stopped):
            try:
                route = self._client.dial(name, timeout=self._timeout(timeout - elapsed))
            except RequestError as exc:
                refusal = exc
                self._raise_if_known_ended(name)
                is_away = self._has_dialled and isinstance(exc, NotReady) and elapsed > EXPORTER_RESTART
                if is_away or patience.is_over(exc):
                    break
            else:
                self._has_dialled = True
                return route
        if isinstance(refusal, PermissionDenied):
            raise LeaseLost(f"lease {name} belongs to another client now: {refusal}") from refusal
        raise DeviceUnreachable(f"lease {name} cannot be dialled: {refusal}") from refusal

    def _waited(self) -> float:
        """Return how long was waited already, by the clock that `wanted.wait` counts by."""
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since

    def _timeout(self, left: float) -> float:
        """Return the timeout of one request, of which this much of the wait is left."""
        return min(CALL_TIMEOUT, max(left, 1.0))

    def _try(self, elapsed: float, call: Callable[[], T], patience: Patience, gone: str = "") -> T | None:
        """
        Return what `call` returns; None if that failed and may not the next time.

        Raises:
            LeaseLost: The lab controller knows no such object; `gone` says so.
            DeviceUnreachable: It cannot tell for longer than `patience` allows, and did before.
            RequestError: It refuses, or has never answered.
        """
        try:
            result = call()
        except NotFound as exc:
            raise LeaseLost(f"{gone}: {exc}") if gone else exc from exc
        except RequestError as exc:
            self._trouble = exc
            if patience.is_over(exc):
                raise self._given_up(exc, f"{self._wanted} cannot be waited for") from exc
            self._report(elapsed, f"the lab controller does not answer ({exc})")
            return None
        patience.answered()
        self._trouble = None
        return result

    def _given_up(self, error: RequestError, what: str) -> JumpstarterError:
        """Return the error with which a wait ends: the lab is at fault if the lab controller had answered before."""
        if error.finality in (Finality.PASSING, Finality.UNKNOWN) and self._client.has_answered:
            return LeaseTimeout(f"{what}: {error}")
        return error

    def _report(self, elapsed: float, state: object) -> None:
        """Say how things stand on every change, and who has the boards when the next survey is due."""
        is_survey = not isinstance(state, str)
        is_due = state != self._last_state or (is_survey and elapsed >= self._next_survey)
        if elapsed < _QUIET or not is_due or (is_survey and self._events.is_quiet):
            return
        self._last_state = state
        if is_survey:
            self._next_survey = next_survey(elapsed, self._dice)
        what = state if isinstance(state, str) else describe_candidates(self._client, self._wanted)
        self._events.say(f"waiting {format_duration(elapsed)} for {self._wanted}: {what}")

    def _refused(self, name: str, refusal: Condition) -> Exception:
        if refusal.type == "Ready":
            return LeaseLost(f"lease {name} ended before it was ready: {refusal.message} ({refusal.reason})")
        asked = f" ({self._wanted.source})" if self._wanted.source else ""
        hint = hint_for(self._client, self._wanted)
        return LeaseUnsatisfiable(
            f"{_unserved(self._wanted)}{asked}{hint}; the lab controller says: {refusal.message} ({refusal.reason})"
        )

    def _raise_if_known_ended(self, name: str, exporter: Exporter | None = None) -> None:
        """Raise why a lease has ended, if the lab controller tells that it has."""
        try:
            lease = self._client.get_lease(name, timeout=CALL_TIMEOUT)
        except NotFound as exc:
            raise LeaseLost(f"lease {name} was deleted: {exc}") from exc
        except RequestError:
            return
        if not lease.is_ended:
            return
        if exporter is not None and exporter.status in ("AVAILABLE", "AFTER_LEASE_HOOK"):
            raise HookFailed(
                f"exporter {exporter.name} released lease {name} before it was ready; its beforeLease hook probably "
                f"failed ({exporter.status_message or 'no reason given'})"
            )
        why = f": {lease.refusal.message} ({lease.refusal.reason})" if lease.refusal else ""
        raise LeaseLost(f"lease {name} has ended{why}")


def _unserved(wanted: Wanted) -> str:
    return f"no exporter can serve {wanted}" if wanted.exporter is None else f"{wanted} cannot be leased"


def _pending(lease: Lease) -> object:
    """Return the pending state of a lease in a form that can be compared; None if it is not pending."""
    condition = lease.condition("Pending")
    return (condition.reason, condition.message) if condition else None


def _is_ready(exporter: Exporter) -> bool:
    is_older_than_0_8 = exporter.status == "UNSPECIFIED"
    return exporter.status == "LEASE_READY" or (is_older_than_0_8 and exporter.online)


def _raise_if_failed(exporter: Exporter) -> None:
    if exporter.status == "BEFORE_LEASE_HOOK_FAILED":
        raise HookFailed(f"exporter {exporter.name}: {exporter.status_message or 'beforeLease hook failed'}")
    if exporter.status == "OFFLINE":
        raise ExporterOffline(f"exporter {exporter.name} is offline: {exporter.status_message or 'no reason given'}")

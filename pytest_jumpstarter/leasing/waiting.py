"""
Waiting for a lease: until it is requested, until it is Ready, until its exporter is ready, until Dial succeeds.

Every wait has a timeout. Requests that fail for a while are tried again; see `patience`.

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
Seconds for which failures of the lab controller are tried again: by a run that never got an answer, by a Dial after
the first one, and when a lease is released.
"""

DECISION_TIMEOUT = 10.0
"""Seconds for the lab controller to decide on a lease that the run can do without."""

CALL_TIMEOUT = 10.0
"""Seconds for one request of a wait, or the rest of the wait if that is less."""

_QUIET = 1.0

EXPORTER_RESTART = 5.0
"""
Seconds for an exporter to accept connections again.

Exporters do not survive a longer outage, and a restarted exporter has other drivers than those of the lease.
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
        events: Receives a line for the user at every change, and sometimes which clients have leased the boards.
        ttl: Seconds that a lease lasts without being extended: failures are tried again for so long once it is Ready.
        since: The start of the time that `wanted.wait` limits, by `time.monotonic()`; None: it starts with the first
            wait.
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
        self._last_error: RequestError | None = None
        self._last_state: object = None
        self._next_survey = 0.0
        self._dice = random.Random()

    def until_requested(self, create: Callable[[float], Lease]) -> Lease:
        """
        Request the lease; try again while the request fails for a while.

        Args:
            create: Sends the request, with the same lease id each time; its argument is the timeout in seconds.

        Raises:
            LeaseTimeout: The lab controller had answered in this run, but did not for the rest of `wanted.wait`.
            RequestError: It refuses, or it never answered in this run and did not for `CONTROLLER_GRACE`.
        """
        before = self._waited()
        is_known = self._client.has_answered
        longest = self._wanted.wait - before if is_known else min(self._wanted.wait - before, CONTROLLER_GRACE)
        patience = Patience(longest, has_answered=is_known)
        for elapsed in attempts(max(0.0, longest)):
            lease = self._try(before + elapsed, partial(create, self._timeout(longest - elapsed)), patience)
            if lease is not None:
                return lease
        assert self._last_error is not None
        raise self._given_up(self._last_error, f"the lease for {self._wanted} cannot be requested")

    def until_ready(self, name: str, *, patience: float = math.inf) -> Lease | None:
        """
        Poll the lease until it is Ready; return None if it is still pending after `patience` seconds.

        If the lab controller has not set a condition yet, wait for at least `DECISION_TIMEOUT`.

        Raises:
            LeaseUnsatisfiable: No exporter can ever serve it.
            LeaseLost: It ended before it was Ready.
            LeaseTimeout: It is still pending after `wanted.wait`, or the lab controller did not answer for so long.
            RequestError: The lab controller refuses.
        """
        before = self._waited()
        asked = time.strftime("%H:%M:%S", time.localtime(time.time() - before))
        longest = max(0.0, self._wanted.wait - before)
        error_patience = Patience(longest, has_answered=True)
        for waited in polls(longest):
            get_lease = partial(self._client.get_lease, name, timeout=self._timeout(longest - waited))
            lease = self._try(before + waited, get_lease, error_patience, gone=f"lease {name} was deleted")
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
        why = self._last_error if self._last_error is not None else describe_candidates(self._client, self._wanted)
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
            DeviceUnreachable: The exporter is not ready after `HOOK_TIMEOUT`.
            LeaseTimeout: The lab controller does not answer for the time to live.
        """
        name, status = str(lease.exporter), "UNSPECIFIED"
        next_check = 1.0
        patience = Patience(self._ttl, has_lease=True, has_answered=True)
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
        Ask the lab controller for a route to the exporter; try again while one of them is not ready.

        Args:
            name: The name of the lease.
            stopped: Set when the route is not needed any more.

        Raises:
            LeaseLost: The lease has ended, or belongs to another client.
            DeviceUnreachable: The exporter cannot be reached, or the lab controller cannot be asked, for
                `DIAL_TIMEOUT`. Once a Dial has succeeded: for `EXPORTER_RESTART`, or `CONTROLLER_GRACE`.
        """
        timeout = CONTROLLER_GRACE if self._has_dialled else DIAL_TIMEOUT
        patience = Patience(timeout, has_lease=True, has_answered=True)
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
            raise LeaseLost(f"lease {name} no longer belongs to this client: {refusal}") from refusal
        raise DeviceUnreachable(f"lease {name} cannot be dialled: {refusal}") from refusal

    def _waited(self) -> float:
        """Return the seconds since the start of the time that `wanted.wait` limits."""
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since

    def _timeout(self, left: float) -> float:
        """Return the timeout of one request, if `left` seconds of the wait are left."""
        return min(CALL_TIMEOUT, max(left, 1.0))

    def _try(self, elapsed: float, call: Callable[[], T], patience: Patience, gone: str = "") -> T | None:
        """
        Return the result of `call`; None if it failed and can be tried again.

        Raises:
            LeaseLost: The object does not exist; the message is `gone`.
            LeaseTimeout: The lab controller had answered in this run, but failed for longer than `patience` allows.
            RequestError: It refuses, or has never answered.
        """
        try:
            result = call()
        except NotFound as exc:
            raise LeaseLost(f"{gone}: {exc}") if gone else exc from exc
        except RequestError as exc:
            self._last_error = exc
            if patience.is_over(exc):
                raise self._given_up(exc, f"{self._wanted} cannot be waited for") from exc
            self._report(elapsed, f"the lab controller does not answer ({exc})")
            return None
        patience.answered()
        self._last_error = None
        return result

    def _given_up(self, error: RequestError, what: str) -> JumpstarterError:
        """Return the error that ends a wait: a fault of the lab if the lab controller had answered before."""
        if error.finality in (Finality.PASSING, Finality.UNKNOWN) and self._client.has_answered:
            return LeaseTimeout(f"{what}: {error}")
        return error

    def _report(self, elapsed: float, state: object) -> None:
        """Report a changed state to the user, and when a survey is due, which clients have leased the boards."""
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
        """Raise the reason if the lab controller shows that the lease has ended."""
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

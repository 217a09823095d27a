"""
Waiting for a lease: until it is requested, until it is Ready, until its exporter is ready, until Dial succeeds.

Every wait has a timeout. Requests that fail for a while are tried again; see `patience`.

Source: the state table of `Lease.conditions` and `Exporter.status` (lease_controller.go, common.proto)
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from pytest_jumpstarter.client.v1 import Client, Condition, Exporter, Lease, Route
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    DeviceUnreachable,
    HookFailed,
    JumpstarterError,
    LeaseLost,
    LeaseTimeout,
    LeaseUnsatisfiable,
    NotFound,
    NotReady,
    RequestError,
)
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.availability import NO_ACCESS, describe_candidates, hint_for
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.exporter_hooks import (
    after_hook_failure,
    draining,
    is_ready,
    raise_if_failed,
    was_released_by_exporter,
)
from pytest_jumpstarter.leasing.lease_request import DEFAULT_TTL, Wanted
from pytest_jumpstarter.leasing.patience import CONTROLLER_GRACE, Patience
from pytest_jumpstarter.leasing.polling import next_survey, polls

T = TypeVar("T")

AFTER_HOOK_TIMEOUT = 300.0
"""Seconds for an afterLease hook; the timeout in the exporter's config, which is not known here, may be longer."""

_HOOK_STARTS = 0.5  # seconds until an exporter knows that its lease has ended

HOOK_TIMEOUT = 300.0
"""Seconds from a Ready lease to a ready exporter: a beforeLease hook may flash a board."""

EXPORTER_START = 30.0
"""Seconds from a Ready lease until its exporter has noticed it: until its status is no longer AVAILABLE."""

DIAL_TIMEOUT = 30.0
"""Seconds until the first Dial of a lease succeeds."""

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

_HOOK_PAUSE = 0.5  # seconds; an exporter shows that a hook has failed for 1 s only


def attempts(timeout: float, *, stopped: threading.Event | None = None, longest_pause: float = 2.0) -> Iterator[float]:
    """Yield as `polls` does, with pauses that stay short: what is waited for may show for a moment only."""
    return polls(timeout, stopped=stopped, longest_pause=longest_pause)


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
            create: Sends the request, with the same lease id each time; its argument is the timeout in seconds, which
                it may need twice: to send the request, and to find out whether the lease exists.

        Raises:
            LeaseTimeout: The lab controller had answered in this run, but did not for the rest of `wanted.wait`.
            RequestError: It refuses, or it never answered in this run and did not for `CONTROLLER_GRACE`.
        """
        before = self._waited()
        is_known = self._client.has_answered
        longest = self._wanted.wait - before if is_known else min(self._wanted.wait - before, CONTROLLER_GRACE)
        patience = Patience(longest, has_answered=is_known)
        for elapsed in attempts(max(0.0, longest)):
            lease = self._try(before + elapsed, partial(create, self._timeout((longest - elapsed) / 2)), patience)
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
            DeviceUnreachable: It is Ready, but has no exporter for `DECISION_TIMEOUT`.
            LeaseTimeout: It is still pending after `wanted.wait`, or the lab controller did not answer for so long.
            RequestError: The lab controller refuses.
        """
        before = self._waited()
        asked = real_time.clock(real_time.time() - before)
        longest = max(0.0, self._wanted.wait - before)
        error_patience, nameless_since, begins = Patience(longest, has_answered=True), math.inf, ""
        for waited in polls(longest):
            get_lease = partial(self._client.get_lease, name, timeout=self._timeout(longest - waited))
            lease = self._try(before + waited, get_lease, error_patience, gone=f"lease {name} was deleted")
            if lease is None:
                continue
            if lease.is_ready and lease.exporter:
                return lease
            if lease.is_ready:
                nameless_since = min(nameless_since, waited)
                if waited - nameless_since > DECISION_TIMEOUT:
                    raise DeviceUnreachable(f"lease {name} is Ready, but the lab controller names no exporter of it")
            if lease.refusal is not None:
                raise self._refused(name, lease.refusal)
            if lease.is_ended:
                raise LeaseLost(f"lease {name} ended before it was ready")
            if waited >= (patience if _pending(lease) else max(patience, DECISION_TIMEOUT)):
                return None
            begins = _begins(lease)
            self._report(before + waited, begins or _pending(lease))
        why = self._last_error or begins or describe_candidates(self._client, self._wanted)
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
            DeviceUnreachable: The exporter is not ready after `HOOK_TIMEOUT`, or has not begun to serve the lease after
                `EXPORTER_START`.
            LeaseTimeout: The lab controller does not answer for the time to live.
        """
        name, status = str(lease.exporter), "UNSPECIFIED"
        next_check = 1.0
        patience = Patience(self._ttl, has_lease=True, has_answered=True)
        for elapsed in attempts(HOOK_TIMEOUT, longest_pause=_HOOK_PAUSE):
            get_exporter = partial(self._client.get_exporter, name, timeout=CALL_TIMEOUT)
            exporter = self._try(elapsed, get_exporter, patience, gone=f"exporter {name} was removed from the lab")
            if exporter is None:
                continue
            if is_ready(exporter):
                return exporter
            raise_if_failed(exporter)
            if elapsed > next_check:
                next_check = elapsed + 1.0
                self._raise_if_known_ended(lease.name, exporter)
            if elapsed >= EXPORTER_START and exporter.status in ("AVAILABLE", "UNSPECIFIED"):
                raise DeviceUnreachable(
                    f"exporter {name} does not serve lease {lease.name}: its status is {exporter.status} after "
                    f"{format_duration(EXPORTER_START)}; its process may be stuck or dead"
                )
            if exporter.status == "BEFORE_LEASE_HOOK" and status != exporter.status:
                on_hook()
            status = exporter.status
            self._report(elapsed, f"{name} is {status}")
        raise DeviceUnreachable(f"exporter {name} is not ready after {format_duration(HOOK_TIMEOUT)} (status {status})")

    def until_cleaned_up(self, name: str, stopped: threading.Event) -> str:
        """
        Wait until the exporter's afterLease hook, if it has one, has finished; the lease must have ended.

        Args:
            name: The name of the exporter.
            stopped: Ends the wait when it is set.

        Returns:
            Why the hook failed, or its warning; empty if it succeeded, or is still running after `AFTER_HOOK_TIMEOUT`.
        """
        patience = Patience(CONTROLLER_GRACE, has_answered=True)
        for elapsed in attempts(AFTER_HOOK_TIMEOUT, stopped=stopped, longest_pause=_HOOK_PAUSE):
            exporter = self._try(elapsed, lambda: self._client.get_exporter(name, timeout=CALL_TIMEOUT), patience)
            if exporter is None or (exporter.status == "LEASE_READY" and elapsed < _HOOK_STARTS):
                continue
            if exporter.status != "AFTER_LEASE_HOOK":
                return after_hook_failure(f"exporter {name}", exporter.status, exporter.status_message)
            self._report(elapsed, f"the afterLease hook of {name} is running{draining(exporter.status_message)}")
        if not stopped.is_set():
            waited = format_duration(AFTER_HOOK_TIMEOUT)
            self._events.say(f"the afterLease hook of {name} is still running after {waited}; its end is not awaited")
        return ""

    def dial(self, name: str, stopped: threading.Event) -> Route:
        """
        Ask the lab controller for a route to the exporter; try again while one of them is not ready.

        Args:
            name: The name of the lease.
            stopped: Set when the route is not needed any more.

        Raises:
            LeaseLost: The lease has ended, or belongs to another client.
            DeviceUnreachable: The exporter cannot be reached, or the lab controller cannot be asked, for
                `DIAL_TIMEOUT`. Once a Dial has succeeded: for `EXPORTER_RESTART`, or `CONTROLLER_GRACE`. All that
                unless the client config says for how long (`leases.dial_timeout`).
            RequestError: The lab controller refuses, and no Dial of this lease has succeeded.
        """
        own = self._client.config.dial_timeout if self._client.config is not None else None
        timeout = max(CONTROLLER_GRACE, own or 0.0) if self._has_dialled else own or DIAL_TIMEOUT
        patience = Patience(timeout, has_lease=True, has_answered=True)
        refusal: RequestError | None = None
        for elapsed in attempts(timeout, stopped=stopped):
            try:
                route = self._client.dial(name, timeout=self._timeout(timeout - elapsed))
            except RequestError as exc:
                refusal = exc
                self._raise_if_known_ended(name)
                is_away = self._has_dialled and isinstance(exc, NotReady) and elapsed > (own or EXPORTER_RESTART)
                if is_away or patience.is_over(exc):
                    break
            else:
                self._has_dialled = True
                return route
        if refusal is not None and refusal.finality == "refusal" and not self._has_dialled:
            raise refusal
        raise DeviceUnreachable(f"lease {name} cannot be dialled: {refusal}") from refusal

    def _waited(self) -> float:
        """Return the seconds since the start of the time that `wanted.wait` limits."""
        now = real_time.monotonic()
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
        if error.finality in ("passing", "unknown") and self._client.has_answered:
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
        if is_survey and (seconds := self._events.seconds_of_tests(self._wanted)):
            what += f"; its tests took {format_duration(seconds)} before"
        self._events.say(f"waiting {format_duration(elapsed)} for {self._wanted}: {what}")

    def _refused(self, name: str, refusal: Condition) -> Exception:
        if refusal.type == "Ready":
            return LeaseLost(f"lease {name} ended before it was ready: {refusal}")
        asked = f" ({self._wanted.source})" if self._wanted.source else ""
        hint = hint_for(self._client, self._wanted, refusal, self._ttl)
        remedy = "; --jmp-allow-disabled leases it as it is" if refusal.reason == "ExporterDisabled" else ""
        error = LeaseUnsatisfiable(f"{_unserved(self._wanted)}{asked}{hint}{_says(refusal, hint)}{remedy}")
        error.reason = refusal.reason
        return error

    def _raise_if_known_ended(self, name: str, exporter: Exporter | None = None) -> None:
        """Raise the reason if the lab controller shows that the lease has ended, or belongs to another client."""
        try:
            lease = self._client.get_lease(name, timeout=CALL_TIMEOUT)
        except NotFound as exc:
            raise LeaseLost(f"lease {name} was deleted: {exc}") from exc
        except RequestError:
            return
        if (loss := loss_of(lease, self._client.name)) is None:
            return
        if exporter is not None and was_released_by_exporter(exporter.status, exporter.status_message):
            raise HookFailed(
                f"exporter {exporter.name} released lease {name} before it was ready; its beforeLease hook probably "
                f"failed ({exporter.status_message})"
            )
        raise loss


def loss_of(lease: Lease, client: str, note: str = "") -> LeaseLost | None:
    """Return why `client` can no longer use its lease, None if it can; `note` adds to why it has ended."""
    if lease.is_ended:
        return LeaseLost(f"lease {lease.name} has ended{f': {lease.refusal}' if lease.refusal else ''}{note}")
    if lease.client != client:
        return LeaseLost(f"lease {lease.name} was transferred to client {lease.client!r}")
    return None


def _unserved(wanted: Wanted) -> str:
    return f"no exporter can serve {wanted}" if wanted.exporter is None else f"{wanted} cannot be leased"


def _says(refusal: Condition, hint: str) -> str:
    """Return the words of the lab controller, but not those on policies if the hint is that nothing matches."""
    is_known = refusal.reason == NO_ACCESS and hint.startswith("; ")
    return "" if is_known else f"; the lab controller says: {refusal}"


def _pending(lease: Lease) -> object:
    """Return the pending state of a lease in a form that can be compared; None if it is not pending."""
    condition = lease.condition("Pending")
    return (condition.reason, condition.message) if condition else None


def _begins(lease: Lease) -> str:
    """Return when a lease begins that was requested for later; empty if it may begin now."""
    if lease.begin_time is None or lease.begin_time <= datetime.now(UTC):
        return ""
    return f"lease {lease.name} begins on {lease.begin_time.astimezone():%Y-%m-%d at %H:%M:%S}"

"""
Waiting for leases and exporters: every wait has a timeout; polling starts fast and backs off with jitter.

Source: the state table of `Lease.conditions` and `Exporter.status` (lease_controller.go, common.proto)
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from pytest_jumpstarter.client.v1 import Client, Condition, Exporter, Lease, Route
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    DeviceUnreachable,
    ExporterOffline,
    HookFailed,
    LeaseLost,
    LeaseTimeout,
    LeaseUnsatisfiable,
    NotReady,
    PermissionDenied,
    StatusError,
    TransportError,
)
from pytest_jumpstarter.leasing.availability import describe_candidates, hint_for
from pytest_jumpstarter.leasing.lease_request import Wanted

T = TypeVar("T")

AFTER_HOOK_TIMEOUT = 120.0
"""Seconds for an afterLease hook: the default timeout of a hook in the exporter's config."""

_HOOK_STARTS = 0.5  # seconds until an exporter knows that its lease has ended

HOOK_TIMEOUT = 300.0
"""Seconds from a Ready lease to a ready exporter: a beforeLease hook may flash a board."""

DIAL_TIMEOUT = 30.0
CONTROLLER_GRACE = 30.0
"""Seconds for which the lab controller may be unreachable during a wait, for example while it restarts."""

DECISION_TIMEOUT = 10.0
"""Seconds for the lab controller to set the first condition of a lease, if the caller can do without the lease."""

_QUIET = 1.0
_REPEAT = 30.0


CONTROLLER_RESTART = 5.0
"""
Seconds for which it may be unreachable while a connection is opened; then the exporter has as long to listen again.

Exporters do not survive a longer outage either, and a restarted exporter has other drivers than those of the lease.
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
    Waits for one lease: until it is Ready, until its exporter is ready, until Dial succeeds.

    Args:
        say: Called with a line for the user at every change of state, and every 30 s.
        since: The start of the time that `wanted.wait` limits, by `time.monotonic()`; None: it starts with the first
            wait.
    """

    def __init__(
        self, client: Client, wanted: Wanted, say: Callable[[str], None], *, since: float | None = None
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._say = say
        self._has_dialled = False
        self._since = since
        self._last_answer = time.monotonic()
        self._last_state: object = None
        self._last_said = 0.0

    def until_ready(self, name: str, *, patience: float = math.inf) -> Lease | None:
        """
        Poll the lease until it is Ready; return None if it is still pending after `patience` seconds.

        If the lab controller has not set a condition yet, wait for at least `DECISION_TIMEOUT`.

        Raises:
            LeaseUnsatisfiable: No exporter can ever serve it.
            LeaseLost: It ended before it was Ready.
            LeaseTimeout: It is still pending after `wanted.wait`.
            ControllerUnreachable: The lab controller is unreachable for longer than `CONTROLLER_GRACE`.
        """
        began = time.monotonic()
        self._since = self._since or began
        before = began - self._since
        asked = time.strftime("%H:%M:%S", time.localtime(time.time() - before))
        lease: Lease | None = None
        for waited in attempts(max(0.0, self._wanted.wait - before)):
            elapsed = before + waited
            lease = self._ask(elapsed, lambda: self._client.get_lease(name)) or lease
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
            self._report(elapsed, _pending(lease))
        raise LeaseTimeout(
            f"no exporter for {self._wanted} within {format_duration(self._wanted.wait)} "
            f"(--jmp-wait; asked at {asked}): "
            f"{describe_candidates(self._client, self._wanted)}"
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
        """
        name, status = str(lease.exporter), "UNSPECIFIED"
        next_check = 1.0
        for elapsed in attempts(HOOK_TIMEOUT):
            exporter = self._ask(elapsed, lambda: self._client.get_exporter(name))
            if exporter is None:
                continue
            if _is_ready(exporter):
                return exporter
            _raise_if_failed(exporter)
            if elapsed > next_check:
                next_check = elapsed + 1.0
                self._raise_if_ended(lease.name, exporter)
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
        for elapsed in attempts(AFTER_HOOK_TIMEOUT):
            exporter = self._ask(elapsed, lambda: self._client.get_exporter(name))
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
        Ask the lab controller for a route to the exporter; try again while either of them is not ready.

        Args:
            name: The name of the lease.
            stopped: Set when the route is not needed any more.

        Raises:
            LeaseLost: The lease has ended, or belongs to another client.
            DeviceUnreachable: The lab controller refuses, or still answers "not ready" after `DIAL_TIMEOUT`; after
                `CONTROLLER_RESTART`, if an earlier Dial succeeded.
            TransportError: The lab controller is unreachable for longer than `CONTROLLER_RESTART`.
        """
        refusal: Exception | None = None
        timeout = CONTROLLER_RESTART if self._has_dialled else DIAL_TIMEOUT
        start = time.monotonic()
        for _ in attempts(timeout, stopped=stopped):
            try:
                route = self._client.dial(name)
                self._has_dialled = True
                return route
            except NotReady as exc:
                self._raise_if_ended(name)
                if not _may_succeed_later(exc):
                    raise DeviceUnreachable(f"lease {name} cannot be dialled: {exc}") from exc
                refusal = exc
            except PermissionDenied as exc:
                self._raise_if_ended(name)
                raise LeaseLost(f"lease {name} no longer belongs to this client: {exc}") from exc
            except StatusError as exc:
                self._raise_if_ended(name)
                raise DeviceUnreachable(f"lease {name} cannot be dialled: {exc}") from exc
            except TransportError as exc:
                if time.monotonic() - start > CONTROLLER_RESTART:
                    raise
                with suppress(TransportError):  # Dial does not refuse an ended lease; it waits for the exporter
                    self._raise_if_ended(name)
                refusal = exc
        raise DeviceUnreachable(
            f"lease {name} cannot be dialled within {format_duration(timeout)}: {refusal}"
        ) from refusal

    def _ask(self, elapsed: float, call: Callable[[], T]) -> T | None:
        """Return the result of `call`; None if the lab controller is unreachable for no longer than allowed."""
        try:
            result = call()
        except TransportError as exc:
            if time.monotonic() - self._last_answer > CONTROLLER_GRACE:
                raise
            self._report(elapsed, f"the lab controller does not answer ({type(exc).__name__})")
            return None
        self._last_answer = time.monotonic()
        return result

    def _report(self, elapsed: float, state: object) -> None:
        """Report the state to the user, unless it was reported last or the wait has only just begun."""
        now = time.monotonic()
        is_new = state != self._last_state or now - self._last_said > _REPEAT
        if elapsed < _QUIET or not is_new:
            return
        self._last_state, self._last_said = state, now
        what = state if isinstance(state, str) else describe_candidates(self._client, self._wanted)
        self._say(f"waiting {format_duration(elapsed)} for {self._wanted}: {what}")

    def _refused(self, name: str, refusal: Condition) -> Exception:
        if refusal.type == "Ready":
            return LeaseLost(f"lease {name} ended before it was ready: {refusal.message} ({refusal.reason})")
        asked = f" ({self._wanted.source})" if self._wanted.source else ""
        hint = hint_for(self._client, self._wanted)
        return LeaseUnsatisfiable(
            f"{_unserved(self._wanted)}{asked}{hint}; the lab controller says: {refusal.message} ({refusal.reason})"
        )

    def _raise_if_ended(self, name: str, exporter: Exporter | None = None) -> None:
        lease = self._client.get_lease(name)
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


def _may_succeed_later(refusal: NotReady) -> bool:
    """Return whether Dial may succeed later: not if the exporter is offline or its hook failed."""
    details = refusal.response.details if refusal.response else ""
    return "offline" not in details and "hook failed" not in details


def _is_ready(exporter: Exporter) -> bool:
    is_older_than_0_8 = exporter.status == "UNSPECIFIED"
    return exporter.status == "LEASE_READY" or (is_older_than_0_8 and exporter.online)


def _raise_if_failed(exporter: Exporter) -> None:
    if exporter.status == "BEFORE_LEASE_HOOK_FAILED":
        raise HookFailed(f"exporter {exporter.name}: {exporter.status_message or 'beforeLease hook failed'}")
    if exporter.status == "OFFLINE":
        raise ExporterOffline(f"exporter {exporter.name} is offline: {exporter.status_message or 'no reason given'}")

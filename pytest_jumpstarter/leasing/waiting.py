"""
The patience that leases need: every wait has an end, starts quick, and backs off with jitter.

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
from pytest_jumpstarter.leasing.availability import what_there_is, words_for_waiting
from pytest_jumpstarter.leasing.lease_request import Wanted

T = TypeVar("T")

AFTER_HOOK_TIMEOUT = 120.0
"""Seconds for an afterLease hook: as long as a hook may run where its config says nothing else."""

_HOOK_STARTS = 0.5  # seconds until an exporter has heard that its lease has ended

HOOK_TIMEOUT = 300.0
"""Seconds for the exporter to become ready after the lease is: a beforeLease hook may flash a board."""

DIAL_TIMEOUT = 30.0
CONTROLLER_GRACE = 30.0
"""Seconds that the lab controller may be away while we wait, as when it restarts."""

DECISION_TIMEOUT = 10.0
"""Seconds for the lab controller to say anything about a lease, where somebody is ready to do without it."""

_QUIET = 1.0
_REPEAT = 30.0


CONTROLLER_RESTART = 5.0
"""
Seconds that it may be away while a connection is opened, and that an exporter may take to listen again after that.

Exporters do not outlive a longer absence either, and one that starts anew has other drivers than those of the lease.
"""


def attempts(timeout: float, *, stopped: threading.Event | None = None) -> Iterator[float]:
    """
    Yield the seconds since the start, at once and then after pauses, until `timeout` has passed or `stopped` is set.

    Pauses begin with 10 ms and grow by half each time, in the first second up to 50 ms, then up to 2 s; ± 20 %.
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
    Waits for one lease: until it is Ready, until its exporter is, until Dial goes through.

    Args:
        say: Told a line for people on every change of state, and every 30 s.
        since: When the wait began by which `wanted.wait` counts, by `time.monotonic()`; None for the first wait.
    """

    def __init__(
        self, client: Client, wanted: Wanted, say: Callable[[str], None], *, since: float | None = None
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._say = say
        self._has_dialled = False
        self._since = since
        self._last_seen = time.monotonic()
        self._last_state: object = None
        self._last_said = 0.0

    def until_ready(self, name: str, *, patience: float = math.inf) -> Lease | None:
        """
        Poll the lease until the lab controller says Ready; None if after `patience` seconds it has nothing for it.

        A lab controller that has not decided yet is given `DECISION_TIMEOUT`.

        Raises:
            LeaseUnsatisfiable: No exporter can ever serve it.
            LeaseLost: It ended while it was waited for.
            LeaseTimeout: It is still pending after `wanted.wait`.
            ControllerUnreachable: The lab controller is away for longer than `CONTROLLER_GRACE`.
        """
        began = time.monotonic()
        self._since = self._since or began
        before = began - self._since
        asked = time.strftime("%H:%M:%S", time.localtime(time.time() - before))
        lease: Lease | None = None
        for waited in attempts(max(0.0, self._wanted.wait - before)):
            elapsed = before + waited
            lease = self._look(elapsed, lambda: self._client.get_lease(name)) or lease
            if lease is None:
                continue
            if lease.is_ready:
                return lease
            if lease.refusal is not None:
                raise self._refused(name, lease.refusal)
            if lease.is_ended:
                raise LeaseLost(f"lease {name} ended while it was waited for")
            if waited >= (patience if _pending(lease) else max(patience, DECISION_TIMEOUT)):
                return None
            self._tell(elapsed, _pending(lease))
        raise LeaseTimeout(
            f"no exporter for {self._wanted} within {format_duration(self._wanted.wait)} "
            f"(--jmp-wait; asked at {asked}): "
            f"{words_for_waiting(self._client, self._wanted)}"
        )

    def until_exporter_ready(self, lease: Lease, on_hook: Callable[[], None]) -> Exporter:
        """
        Poll the exporter until it says LEASE_READY; only then may it be dialled.

        An exporter older than 0.8 tells no status: there, online is all that can be known.

        Args:
            lease: The lease, with its exporter.
            on_hook: Called once if a beforeLease hook is running.

        Raises:
            HookFailed: Its beforeLease hook failed, or it gave the lease back before it was ready.
            ExporterOffline: It went away.
            LeaseLost: The lease ended meanwhile.
            DeviceUnreachable: It is not ready after `HOOK_TIMEOUT`.
        """
        name, seen = str(lease.exporter), "UNSPECIFIED"
        next_check = 1.0
        for elapsed in attempts(HOOK_TIMEOUT):
            exporter = self._look(elapsed, lambda: self._client.get_exporter(name))
            if exporter is None:
                continue
            if _is_ready(exporter):
                return exporter
            _raise_if_failed(exporter)
            if elapsed > next_check:
                next_check = elapsed + 1.0
                self._raise_if_ended(lease.name, exporter)
            if exporter.status == "BEFORE_LEASE_HOOK" and seen != exporter.status:
                on_hook()
            seen = exporter.status
            self._tell(elapsed, f"{name} is {seen}")
        raise DeviceUnreachable(f"exporter {name} is still {seen} after {format_duration(HOOK_TIMEOUT)}")

    def until_cleaned_up(self, name: str) -> str:
        """
        Wait, when the lease has ended, until the exporter's afterLease hook is done, if it has one.

        Args:
            name: The exporter.

        Returns:
            Why the hook failed, or that it is not done after `AFTER_HOOK_TIMEOUT`; empty if all is well.
        """
        for elapsed in attempts(AFTER_HOOK_TIMEOUT):
            exporter = self._look(elapsed, lambda: self._client.get_exporter(name))
            if exporter is None or (exporter.status == "LEASE_READY" and elapsed < _HOOK_STARTS):
                continue
            if exporter.status == "AFTER_LEASE_HOOK_FAILED":
                return f"exporter {name}: {exporter.status_message or 'afterLease hook failed'}"
            if exporter.status != "AFTER_LEASE_HOOK":
                return ""
            self._tell(elapsed, f"the afterLease hook of {name} is running")
        return f"exporter {name}: its afterLease hook still runs after {format_duration(AFTER_HOOK_TIMEOUT)}"

    def dial(self, name: str, stopped: threading.Event) -> Route:
        """
        Ask the lab controller for a route to the exporter, again while one of the two is not quite there.

        Args:
            name: The lease's.
            stopped: Set when nobody needs the route any more.

        Raises:
            LeaseLost: The lease is no longer ours.
            DeviceUnreachable: The lab controller refuses, or still says "not ready" after `DIAL_TIMEOUT`; or after
                `CONTROLLER_RESTART`, where it did not before.
            TransportError: It is away for longer than `CONTROLLER_RESTART`.
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
                if not _may_pass(exc):
                    raise DeviceUnreachable(f"lease {name} cannot be dialled: {exc}") from exc
                refusal = exc
            except PermissionDenied as exc:
                self._raise_if_ended(name)
                raise LeaseLost(f"lease {name} belongs to someone else now: {exc}") from exc
            except StatusError as exc:
                self._raise_if_ended(name)
                raise DeviceUnreachable(f"lease {name} cannot be dialled: {exc}") from exc
            except TransportError as exc:
                if time.monotonic() - start > CONTROLLER_RESTART:
                    raise
                with suppress(TransportError):  # it does not refuse an ended lease, it waits for its exporter
                    self._raise_if_ended(name)
                refusal = exc
        raise DeviceUnreachable(
            f"lease {name} cannot be dialled within {format_duration(timeout)}: {refusal}"
        ) from refusal

    def _look(self, elapsed: float, call: Callable[[], T]) -> T | None:
        """Return what `call` returns, or None while the lab controller is away for a moment."""
        try:
            result = call()
        except TransportError as exc:
            if time.monotonic() - self._last_seen > CONTROLLER_GRACE:
                raise
            self._tell(elapsed, f"the lab controller does not answer ({type(exc).__name__})")
            return None
        self._last_seen = time.monotonic()
        return result

    def _tell(self, elapsed: float, state: object) -> None:
        """Say how things stand, unless that is what was said last or the wait has only begun."""
        now = time.monotonic()
        is_news = state != self._last_state or now - self._last_said > _REPEAT
        if elapsed < _QUIET or not is_news:
            return
        self._last_state, self._last_said = state, now
        what = state if isinstance(state, str) else words_for_waiting(self._client, self._wanted)
        self._say(f"waiting {format_duration(elapsed)} for {self._wanted}: {what}")

    def _refused(self, name: str, refusal: Condition) -> Exception:
        if refusal.type == "Ready":
            return LeaseLost(f"lease {name} ended while it was waited for: {refusal.message} ({refusal.reason})")
        asked = f" ({self._wanted.source})" if self._wanted.source else ""
        hint = what_there_is(self._client, self._wanted)
        return LeaseUnsatisfiable(
            f"{_unserved(self._wanted)}{asked}{hint}; the lab controller says: {refusal.message} ({refusal.reason})"
        )

    def _raise_if_ended(self, name: str, exporter: Exporter | None = None) -> None:
        lease = self._client.get_lease(name)
        if not lease.is_ended:
            return
        if exporter is not None and exporter.status in ("AVAILABLE", "AFTER_LEASE_HOOK"):
            raise HookFailed(
                f"exporter {exporter.name} gave lease {name} back before it was ready; its beforeLease hook probably "
                f"failed ({exporter.status_message or 'it gives no reason'})"
            )
        why = f": {lease.refusal.message} ({lease.refusal.reason})" if lease.refusal else ""
        raise LeaseLost(f"lease {name} has ended{why}")


def _unserved(wanted: Wanted) -> str:
    return f"no exporter can serve {wanted}" if wanted.exporter is None else f"{wanted} cannot be leased"


def _pending(lease: Lease) -> object:
    """Return what tells one pending state from another."""
    condition = lease.condition("Pending")
    return (condition.reason, condition.message) if condition else None


def _may_pass(refusal: NotReady) -> bool:
    """Tell whether Dial may yet go through: not with an exporter that is offline, or whose hook failed."""
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

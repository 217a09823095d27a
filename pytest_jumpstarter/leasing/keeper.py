"""
Extends and watches leases, in a daemon thread.

A lease has a short time to live (`--jmp-ttl`) and is extended after a third of it. So if this process dies, the board
is free at the end of that time without any action. The thread also checks every few seconds whether the lease and its
exporter still exist; a test that blocks cannot do so.

Source: jumpstarter.client.v1.ClientService UpdateLease: `duration` is the total since the lease became Ready
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import (
    DeviceError,
    JumpstarterError,
    LeaseLost,
    RequestError,
    TokenExpired,
)
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import LOOK_INTERVAL, Health
from pytest_jumpstarter.leasing.lease import ManagedLease
from pytest_jumpstarter.leasing.patience import Patience

_LONGEST_REQUEST = 5.0
"""Seconds for one request, or a sixth of the time to live if that is less: all leases share the thread."""

_EXPORTER_EVERY = 3
"""The lease is checked each time, the exporter each third time."""


class _Watched:
    """A lease that the keeper watches, with the time of the last successful check and of the next extension."""

    def __init__(self, managed: ManagedLease, interval: float, ttl: float) -> None:
        self.managed = managed
        self.last_check = real_time.monotonic()
        self.next_extension = self.last_check + interval
        self.patience = Patience(ttl, has_lease=True, has_answered=True)
        self.extension_patience = Patience(ttl, has_lease=True, has_answered=True)
        self.checks = 0


class Keeper:
    """
    Extends and watches leases until it is stopped.

    Args:
        ttl: Seconds for which a lease may outlive this process.
        healths: The health of each role's device; a loss is recorded there.
        events: Notified of a loss, from the keeper's thread.
    """

    def __init__(self, *, ttl: float, healths: Mapping[str, Health], events: Events) -> None:
        self.ttl = ttl
        self._healths = healths
        self._events = events
        self._interval = min(LOOK_INTERVAL, ttl / 6)
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def watch(self, managed: ManagedLease) -> None:
        """Extend `managed` from now on, and record the loss of its device if it is lost."""
        with self._lock:
            self._watched[managed.name] = _Watched(managed, self._extension_interval(), self.ttl)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="jumpstarter-keeper", daemon=True)
                thread.start()
                self._thread = thread  # not earlier: a thread that was not started cannot be joined

    def forget(self, managed: ManagedLease) -> None:
        """Stop watching `managed`, because it is being released."""
        with self._lock:
            self._watched.pop(managed.name, None)

    def stop(self) -> None:
        """End the thread; a call in progress ends by its own timeout."""
        self._stopped.set()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join(self._interval)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            with self._lock:
                watched = list(self._watched.values())
            for lease in watched:
                self._visit(lease)

    def _visit(self, watched: _Watched) -> None:
        """Check and extend one lease; no error ends the thread, because all leases need it."""
        timeout = min(_LONGEST_REQUEST, max(1.0, self.ttl / 6))
        watched.checks += 1
        try:
            loss = watched.managed.look(timeout, with_exporter=watched.checks % _EXPORTER_EVERY == 1)
            watched.last_check = real_time.monotonic()
            watched.patience.answered()
            if loss is None and watched.last_check >= watched.next_extension:
                loss = self._extend(watched, timeout)
        except DeviceError as exc:
            loss = exc
        except TokenExpired as exc:  # the user may log in again
            loss = self._loss_if_expired(watched, "the token has been expired", exc)
        except RequestError as exc:
            loss = self._loss_after(watched, exc)
        except JumpstarterError as exc:
            loss = LeaseLost(f"lease {watched.managed.name} cannot be checked or extended: {exc}")
        except Exception as exc:
            loss = self._loss_if_expired(watched, f"the lease could not be checked ({type(exc).__name__})", exc)
        if loss is not None and self._is_watched(watched):
            self.forget(watched.managed)
            self._lose(watched.managed, loss)

    def _extend(self, watched: _Watched, timeout: float) -> DeviceError | None:
        """Extend a lease; if that fails for good, return the loss. After other failures, it is tried again."""
        try:
            watched.managed.extend(timeout)
        except TokenExpired:  # the user may log in again
            return None
        except RequestError as exc:
            is_over = watched.extension_patience.is_over(exc)
            return LeaseLost(f"lease {watched.managed.name} cannot be extended: {exc}") if is_over else None
        watched.extension_patience.answered()
        watched.next_extension = real_time.monotonic() + self._extension_interval()
        return None

    def _loss_after(self, watched: _Watched, exc: RequestError) -> DeviceError | None:
        """Return the loss if the lab controller refuses, or has failed for longer than the time to live; else None."""
        if not watched.patience.is_over(exc):
            return None
        if exc.finality in ("final", "refusal"):
            return LeaseLost(f"lease {watched.managed.name} cannot be checked or extended: {exc}")
        return self._loss_if_expired(watched, "the lab controller has been unreachable", exc)

    def _lose(self, managed: ManagedLease, loss: DeviceError) -> None:
        """Record the loss of the lease's device if it is ready; before that, the code that waits for it sees it."""
        role = managed.wanted.role
        health = self._healths.get(role)
        if health is not None and health.is_of(managed):
            health.lose(loss)
            self._events.on_loss(role, health.loss or loss)  # `health.loss` also names exporter and lease

    def _loss_if_expired(self, watched: _Watched, what: str, exc: Exception) -> DeviceError | None:
        """Return the loss if the lease could not be checked for so long that it must have ended; else None."""
        unchecked = real_time.monotonic() - watched.last_check
        if unchecked < self.ttl:
            return None
        return LeaseLost(
            f"{what} for {format_duration(unchecked)}, longer than lease {watched.managed.name} lasts "
            f"unless extended (--jmp-ttl): {exc}"
        )

    def _is_watched(self, watched: _Watched) -> bool:
        with self._lock:
            return self._watched.get(watched.managed.name) is watched

    def _extension_interval(self) -> float:
        return self.ttl / 3 * random.uniform(0.8, 1.0)

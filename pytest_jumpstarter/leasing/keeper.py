"""
Keeps leases alive and watches over them, from a daemon thread of its own.

A lease is asked for a short time to live and extended at a third of it: if this process dies, the board is free one
time to live later, without anybody doing anything. The same thread looks every few seconds whether lease and exporter
are still there, which a test that blocks cannot.

Source: jumpstarter.client.v1.ClientService UpdateLease: `duration` is the total since the lease became Ready
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import DeviceError, JumpstarterError, LeaseLost, TokenExpired, TransportError
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import LOOK_INTERVAL, Health
from pytest_jumpstarter.leasing.lease import ManagedLease


class _Watched:
    """One lease in the keeper's hands."""

    def __init__(self, managed: ManagedLease, interval: float) -> None:
        self.managed = managed
        self.seen = time.monotonic()
        self.next_extension = self.seen + interval


class Keeper:
    """
    Extends and watches leases until it is stopped.

    Args:
        ttl: Seconds a lease may outlive this process.
        healths: The state of each role's device, where a loss is noted.
        events: Told of it, from the keeper's thread.
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
        """Keep `managed` alive from now on, and note the loss of its device when it is gone."""
        with self._lock:
            self._watched[managed.name] = _Watched(managed, self._next_third())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jumpstarter-keeper", daemon=True)
                self._thread.start()

    def forget(self, managed: ManagedLease) -> None:
        """Let `managed` be: it is being given back."""
        with self._lock:
            self._watched.pop(managed.name, None)

    def stop(self) -> None:
        """End the thread; a call that is under way ends by its own timeout."""
        self._stopped.set()
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join(self._interval)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            with self._lock:
                watched = list(self._watched.values())
            for each in watched:
                self._visit(each)

    def _visit(self, watched: _Watched) -> None:
        """Look after one lease; nothing that goes wrong here ends the thread that all leases need."""
        timeout = max(1.0, self.ttl / 6)
        try:
            loss = watched.managed.look(timeout)
            watched.seen = time.monotonic()
            if loss is None and watched.seen >= watched.next_extension:
                watched.managed.extend(timeout)
                watched.next_extension = time.monotonic() + self._next_third()
        except DeviceError as exc:
            loss = exc
        except TransportError as exc:
            loss = self._given_up(watched, "the lab controller has been away", exc)
        except TokenExpired as exc:
            loss = self._given_up(watched, "the token has been expired", exc)
        except JumpstarterError as exc:
            loss = LeaseLost(f"lease {watched.managed.name} cannot be kept: {exc}")
        except Exception as exc:
            loss = self._given_up(watched, f"the lease could not be looked after ({type(exc).__name__})", exc)
        if loss is not None and self._is_watched(watched):
            self.forget(watched.managed)
            self._lose(watched.managed, loss)

    def _lose(self, managed: ManagedLease, loss: DeviceError) -> None:
        """Note the loss of the lease's device, if it is ready already: until then whoever waits for it notices."""
        role = managed.wanted.role
        health = self._healths.get(role)
        if health is not None and health.is_of(managed):
            health.lose(loss)
            self._events.on_loss(role, health.loss or loss)  # by now it knows which board it is about

    def _given_up(self, watched: _Watched, what: str, exc: Exception) -> DeviceError | None:
        """Return the loss if the lease was out of reach for so long that it must have ended."""
        away = time.monotonic() - watched.seen
        if away < self.ttl:
            return None
        return LeaseLost(
            f"{what} for {format_duration(away)}, longer than lease {watched.managed.name} lives unextended "
            f"(--jmp-ttl): {exc}"
        )

    def _is_watched(self, watched: _Watched) -> bool:
        with self._lock:
            return self._watched.get(watched.managed.name) is watched

    def _next_third(self) -> float:
        return self.ttl / 3 * random.uniform(0.8, 1.0)

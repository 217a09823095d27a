"""`Leases`: the leases in our hands, each made here, kept alive, and given back here."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pytest_jumpstarter.ci import Origin
from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import ConfigError, JumpstarterError, LeaseLost, RequestError
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.keeper import Keeper
from pytest_jumpstarter.leasing.lease import AdoptedLease, ManagedLease, Reservation
from pytest_jumpstarter.leasing.lease_request import LeaseIds, LeaseRequest, Terms, Wanted, lease_context, lease_tags
from pytest_jumpstarter.leasing.own_lease import OwnLease


class Leases:
    """
    The leases in our hands.

    Args:
        events: Told what happens.
        ids: Names for the leases of this process.
        terms: For how long leases are asked for, and held.
        healths: The state of each role's device.
        connector: See `ManagedLease`.

    Attributes:
        client: The client that leases are made with.
        held: The leases, from before they are requested until they were given back.
    """

    def __init__(
        self,
        client: Client,
        *,
        events: Events,
        ids: LeaseIds,
        terms: Terms,
        healths: Mapping[str, Health],
        connector: Connector,
    ) -> None:
        self.client = client
        self.managed: list[ManagedLease] = []
        self._events = events
        self._ids = ids
        self._terms = terms
        self._healths = healths
        self._connector = connector
        self._keeper = Keeper(ttl=terms.ttl, healths=healths, events=events)
        self._is_urgent = False

    def request_for(self, wanted: Wanted) -> tuple[Wanted, LeaseRequest | None]:
        """
        Return what is wanted after the hooks had their say, and the request for it; None for an existing lease.

        Raises:
            ConfigError: Nothing says which exporter the role needs.
        """
        if wanted.lease is not None:
            return wanted, None
        if wanted.selector is None and wanted.exporter is None:
            raise ConfigError(
                f"nothing says which exporter {wanted.role!r} needs; give --jmp-selector, --jmp-exporter or "
                "--jmp-lease (ini: jmp_selector, …), or device_fixture(selector=…)"
            )
        request = LeaseRequest(
            selector=wanted.selector,
            exporter=wanted.exporter,
            duration=min(self._terms.ttl, self._terms.max_hold or self._terms.ttl),
            tags=lease_tags(self._origin, run=self._ids.run, worker=self._ids.worker),
            context=lease_context(self._origin),
        )
        self._events.on_request(request, wanted.role)
        return _as_requested(wanted, request), request

    def new(self, wanted: Wanted, request: LeaseRequest | None, *, since: float) -> ManagedLease:
        """Return a lease that is still to be requested, or without a request the existing one; see `ManagedLease`."""
        if request is None:
            managed: ManagedLease = AdoptedLease(
                self.client, wanted, events=self._events, connector=self._connector, since=since
            )
        else:
            managed = OwnLease(
                self.client,
                wanted,
                request,
                terms=self._terms,
                ids=self._ids,
                events=self._events,
                connector=self._connector,
                since=since,
            )
        self.managed.append(managed)  # before the request leaves
        return managed

    def keep(self, managed: ManagedLease) -> None:
        """Keep a lease that is Ready alive, until it is given back."""
        self._keeper.watch(managed)

    def drop(self, managed: ManagedLease) -> None:
        """Give back what no test has seen."""
        managed.release()
        self.managed.remove(managed)  # and not before: an interrupt in between leaves it to `close`
        if managed.failure:
            self._events.on_failure(managed.failure)

    def give_back(self, managed: ManagedLease) -> None:
        """Give back what tests had, unless that is done, and see its exporter clean up."""
        if managed not in self.managed:
            return
        self._keeper.forget(managed)
        managed.release()
        self.managed.remove(managed)  # as in `drop`
        if managed.failure:
            self._events.on_failure(managed.failure)
        elif managed.is_ours and managed.lease is not None and not managed.is_reserved:
            self._events.on_released(managed.lease, managed.wanted.role)
            if not self._is_urgent:
                self._await_after_hook(managed)

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Leave the boards of some roles to people, for `duration` seconds; return those, and why others cannot be."""
        reserved, failures = [], []
        for managed in self.managed:
            if managed.wanted.role in roles and managed.exporter is not None:
                try:
                    reserved.append(managed.reserve(duration))
                    self._keeper.forget(managed)
                except JumpstarterError as exc:
                    failures.append(f"lease {managed.name} cannot be held: {exc}")
        return reserved, failures

    def release_all(self) -> None:
        """Give back every lease of ours at once, without waiting for anything else; for a signal, in a thread."""
        self._is_urgent = True
        threads = []
        for managed in list(self.managed):
            thread = threading.Thread(target=managed.release, kwargs={"is_urgent": True}, daemon=True)
            try:
                thread.start()
                threads.append(thread)
            except RuntimeError:  # there are no more threads
                managed.release(is_urgent=True)
        for health in list(self._healths.values()):
            health.lose(LeaseLost("the boards went back when a signal came"))
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Give back every lease that a fixture left behind."""
        with ExitStack() as stack:
            stack.callback(self._keeper.stop)
            for managed in list(self.managed):
                stack.callback(self.give_back, managed)

    def _await_after_hook(self, managed: ManagedLease) -> None:
        """Wait until the exporter has cleaned up, and pass on if it could not."""
        with suppress(RequestError):  # the lab controller is away: nobody can tell
            if failure := managed.after_hook():
                self._events.on_hook_failure(failure)

    @cached_property
    def _origin(self) -> Origin:
        return Origin.of(os.environ, Path.cwd())


def _as_requested(wanted: Wanted, request: LeaseRequest) -> Wanted:
    """Return what is wanted after the hooks had their say."""
    if (request.selector, request.exporter) == (wanted.selector, wanted.exporter):
        return wanted
    source = f"{wanted.source}, changed by a pytest_jumpstarter_lease_request hook"
    return replace(wanted, selector=request.selector, exporter=request.exporter, source=source)

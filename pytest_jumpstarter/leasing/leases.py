"""`Leases`: the leases in use by this process; it creates, extends and releases them."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import ConfigError, JumpstarterError, LeaseLost, RequestError
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.keeper import Keeper
from pytest_jumpstarter.leasing.lease import AdoptedLease, ManagedLease, Reservation
from pytest_jumpstarter.leasing.lease_request import LeaseIds, LeaseRequest, Terms, Wanted, lease_context, lease_tags
from pytest_jumpstarter.leasing.origin import Origin
from pytest_jumpstarter.leasing.own_lease import OwnLease
from pytest_jumpstarter.leasing.own_tags import OwnTags


class Leases:
    """
    The leases in use by this process.

    Args:
        events: Receives what happens.
        ids: Creates the names of leases.
        terms: The time to live of leases, and the longest time that they may be in use.
        healths: The health of each role's device.
        connector: See `ManagedLease`.

    Attributes:
        client: The client that requests leases.
        managed: The leases, from just before they are requested until they have been released.
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
        self._is_urgent = threading.Event()

    def request_for(self, wanted: Wanted) -> tuple[Wanted, LeaseRequest | None]:
        """
        Return `wanted` and the request for it, with the changes of the hooks; no request for an existing lease.

        Raises:
            ConfigError: Neither a selector nor an exporter is configured for the role.
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
            tags=self._tags.allowed(),
            context=lease_context(self._origin),
            allow_disabled=wanted.allow_disabled and wanted.exporter is not None,
        )
        self._events.on_request(request, wanted.role)
        return _as_requested(wanted, request), request

    def new(self, wanted: Wanted, request: LeaseRequest | None, *, since: float) -> ManagedLease:
        """Return a lease that is not requested yet; without a `request`, the existing lease. See `ManagedLease`."""
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
                tags=self._tags,
                events=self._events,
                connector=self._connector,
                since=since,
            )
        self.managed.append(managed)  # before the request is sent
        return managed

    def say(self, line: str) -> None:
        """Show a line to the user."""
        self._events.say(line)

    def keep(self, managed: ManagedLease) -> None:
        """Extend and watch a lease that is Ready, until it is released."""
        self._keeper.watch(managed)

    def drop(self, managed: ManagedLease) -> None:
        """Release a lease that no test has used, or withdraw its request."""
        managed.release()
        self.managed.remove(managed)  # not earlier: after an interrupt, `close` releases it
        if managed.failure:
            self._events.on_failure(managed.failure)

    def release(self, managed: ManagedLease) -> None:
        """Release a lease that tests have used, unless that was done."""
        if managed not in self.managed:
            return
        self._keeper.forget(managed)
        managed.release()
        self.managed.remove(managed)  # as in `drop`
        if managed.failure:
            self._events.on_failure(managed.failure)
        elif managed.is_ours and managed.lease is not None and not managed.is_reserved:
            self._events.on_released(managed.lease, managed.wanted.role)

    def await_after_hook(self, managed: ManagedLease) -> None:
        """Wait for the afterLease hook of a lease that was released, and report its failure or warning."""
        is_released = managed.is_ours and managed.lease is not None and not managed.is_reserved and not managed.failure
        if not is_released or self._is_urgent.is_set():
            return
        with suppress(RequestError):  # without the lab controller the result is unknown
            if failure := managed.after_hook(self._is_urgent):
                self._events.on_hook_failure(managed.wanted.role, managed.name, failure)

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Keep the boards of some roles for people, for `duration` seconds; return these leases, and the failures."""
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
        """Release every lease of this process at once, without waiting for hooks; after a signal, in a thread."""
        self._is_urgent.set()
        self.client.renew_connection()
        threads = []
        for managed in list(self.managed):
            thread = threading.Thread(target=managed.release, kwargs={"is_urgent": True}, daemon=True)
            try:
                thread.start()
                threads.append(thread)
            except RuntimeError:  # no more threads
                managed.release(is_urgent=True)
        for health in list(self._healths.values()):
            health.lose(LeaseLost("the boards were released because of a signal"))
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Release every lease that is still in use."""
        with ExitStack() as stack:
            stack.callback(self._keeper.stop)
            for managed in list(self.managed):
                stack.callback(self.release, managed)

    @cached_property
    def _tags(self) -> OwnTags:
        return OwnTags(lease_tags(self._origin, run=self._ids.run), self._events)

    @cached_property
    def _origin(self) -> Origin:
        return Origin.of(os.environ, Path.cwd())


def _as_requested(wanted: Wanted, request: LeaseRequest) -> Wanted:
    """Return `wanted` with the changes that hooks made to `request`."""
    if (request.selector, request.exporter) == (wanted.selector, wanted.exporter):
        return wanted
    source = f"{wanted.source}, changed by a pytest_jumpstarter_lease_request hook"
    return replace(wanted, selector=request.selector, exporter=request.exporter, source=source)

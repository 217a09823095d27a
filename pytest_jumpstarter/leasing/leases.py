"""`Leases`: the leases in our hands, each made here, kept alive, and given back here."""

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
from pytest_jumpstarter.leasing.adopted import Adopted
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.held import Held
from pytest_jumpstarter.leasing.hold import Hold
from pytest_jumpstarter.leasing.keeper import Keeper
from pytest_jumpstarter.leasing.request import LeaseIds, LeaseRequest, Terms, Wanted
from pytest_jumpstarter.leasing.reservation import Reservation
from pytest_jumpstarter.leasing.tags import lease_context, lease_tags
from pytest_jumpstarter.origin import Origin


class Leases:
    """
    The leases in our hands.

    Args:
        events: Told what happens.
        ids: Names for the leases of this process.
        terms: For how long leases are asked for, and held.
        healths: The state of each role's device.
        connector: See `Held`.

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
        self.held: list[Held] = []
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

    def new(self, wanted: Wanted, request: LeaseRequest | None, *, since: float) -> Held:
        """Return a lease that is still to be requested, or without a request the existing one; see `Held`."""
        if request is None:
            held: Held = Adopted(self.client, wanted, events=self._events, connector=self._connector, since=since)
        else:
            held = Hold(
                self.client,
                wanted,
                request,
                terms=self._terms,
                ids=self._ids,
                events=self._events,
                connector=self._connector,
                since=since,
            )
        self.held.append(held)  # before the request leaves
        return held

    def keep(self, held: Held) -> None:
        """Keep a lease that is Ready alive, until it is given back."""
        self._keeper.watch(held)

    def drop(self, held: Held) -> None:
        """Give back what no test has seen."""
        held.release()
        self.held.remove(held)  # and not before: an interrupt in between leaves it to `close`
        if held.failure:
            self._events.on_failure(held.failure)

    def give_back(self, held: Held) -> None:
        """Give back what tests had, unless that is done, and see its exporter clean up."""
        if held not in self.held:
            return
        self._keeper.forget(held)
        held.release()
        self.held.remove(held)  # as in `drop`
        if held.failure:
            self._events.on_failure(held.failure)
        elif held.is_ours and held.lease is not None and not held.is_reserved:
            self._events.on_released(held.lease, held.wanted.role)
            if not self._is_urgent:
                self._await_after_hook(held)

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Leave the boards of some roles to people, for `duration` seconds; return those, and why others cannot be."""
        reserved, failures = [], []
        for held in self.held:
            if held.wanted.role in roles and held.exporter is not None:
                try:
                    reserved.append(held.reserve(duration))
                    self._keeper.forget(held)
                except JumpstarterError as exc:
                    failures.append(f"lease {held.name} cannot be held: {exc}")
        return reserved, failures

    def release_all(self) -> None:
        """Give back every lease of ours at once, without waiting for anything else; for a signal, in a thread."""
        self._is_urgent = True
        threads = [
            threading.Thread(target=held.release, kwargs={"confirm": False}, daemon=True) for held in list(self.held)
        ]
        for thread in threads:
            thread.start()
        for health in list(self._healths.values()):
            health.lose(LeaseLost("the boards went back when a signal came"))
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Give back every lease that a fixture left behind."""
        with ExitStack() as stack:
            stack.callback(self._keeper.stop)
            for held in list(self.held):
                stack.callback(self.give_back, held)

    def _await_after_hook(self, held: Held) -> None:
        """Wait until the exporter has cleaned up, and pass on if it could not."""
        with suppress(RequestError):  # the lab controller is away: nobody can tell
            if failure := held.after_hook():
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

"""
Acquires the leases of a set of devices: all of them or none; no lease is kept while the set waits for the rest.

All runs request leases in the same order, sorted by what is requested. If the next device is in use, the leases that
the set has are kept for a short random time only. Then they are released, and the set waits without any lease. So two
runs that need the same devices do not block each other. All members share one deadline, that of `--jmp-wait`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import LeaseTimeout, LeaseUnsatisfiable, PermissionDenied
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.availability import NO_ACCESS
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.lease import ManagedLease
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.leases import Leases
from pytest_jumpstarter.leasing.polling import polls
from pytest_jumpstarter.leasing.replaced import replacement_for

SHORTEST_PATIENCE = 0.5
LONGEST_PATIENCE = 4.0
"""Seconds for which leases are kept at most while the next member is not available; doubled at each attempt."""


class Member:
    """
    One device of a set, until its lease is Ready.

    Args:
        wanted: What the role needs; the hooks may change it.
        leases: Creates the lease, and releases it if the set cannot be completed.
        choice: Chooses the exporter to try first, if any.
    """

    def __init__(self, wanted: Wanted, leases: Leases, choice: Choice) -> None:
        self._since = real_time.monotonic()
        self._leases = leases
        self._choice = choice
        self.wanted, self._request = leases.request_for(wanted)
        self.managed: ManagedLease | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The sort key of all runs: what is requested; the name of the role only breaks ties."""
        return self.wanted.exporter or "", self.wanted.selector or "", self.wanted.role

    def obtain(self, patience: float) -> bool:
        """
        Request the lease unless that was done, and wait for it; return whether it is Ready after `patience` seconds.

        Raises:
            LeaseUnsatisfiable, LeaseTimeout, LeaseLost, RequestError: See `Waiter.until_ready`.
        """
        try:
            return self._obtain(patience)
        except LeaseUnsatisfiable as exc:
            if exc.reason == NO_ACCESS and self._request is not None:
                self._choice.forbid(self._leases.client, self.wanted)
            if not (gone := self._choice.replaced.gone(self.wanted, exc.reason)):
                raise
            return self._obtain_replacement(gone, patience, exc)

    def _obtain_replacement(self, gone: str, patience: float, refusal: LeaseUnsatisfiable) -> bool:
        """Wait for the exporter that replaces the one that is gone, and obtain a lease of it as in `obtain`."""
        self.drop()
        self._leases.say(f"exporter {gone} is gone; waiting for the one that replaces it")
        for waited in polls(max(0.0, self._since + self.wanted.wait - real_time.monotonic())):
            if name := replacement_for(gone, self._leases.client, self.wanted):
                self._rename(name)
                try:
                    return self._obtain(patience)
                except LeaseUnsatisfiable as exc:
                    if not self._choice.replaced.gone(self.wanted, exc.reason):
                        raise
                    self.drop()
            if waited > patience:
                return False
        wait = format_duration(self.wanted.wait)
        raise LeaseTimeout(f"no exporter replaces {gone} for {self.wanted} within {wait} (--jmp-wait)") from refusal

    def _rename(self, name: str) -> None:
        """Request this exporter, if one is requested by name."""
        if self._request is not None and self.wanted.exporter is not None:
            self._leases.say(f"exporter {name} replaces {self.wanted.exporter}")
            listed = (*self.wanted.listed, name)
            self.wanted = replace(self.wanted, exporter=name, listed=listed)
            self._request = replace(self._request, exporter=name)

    def _obtain(self, patience: float) -> bool:
        if self.managed is None and self._obtain_by_name():
            return True
        if self.managed is None:
            self.managed = self._leases.new(self.wanted, self._request, since=self._since)
        return self.managed.obtain(patience=patience)

    def _obtain_by_name(self) -> bool:
        """Try the best exporter by name; if it is in use by now or not permitted, withdraw the request."""
        if self._request is None or (name := self._choice.pick(self._leases.client, self.wanted)) is None:
            return False
        wanted, request = replace(self.wanted, exporter=name), replace(self._request, exporter=name)
        self.managed = self._leases.new(wanted, request, since=self._since)
        try:
            if self.managed.obtain(patience=0.0):
                return True
        except (LeaseUnsatisfiable, PermissionDenied) as exc:
            # An access policy excludes it, and may allow others that match.
            if isinstance(exc, PermissionDenied) or exc.reason == NO_ACCESS:
                self._choice.forbidden.add(name)
        except LeaseTimeout:
            pass
        self.drop()
        return False

    def drop(self) -> None:
        """Release the lease, or withdraw the request."""
        managed, self.managed = self.managed, None
        if managed is not None:
            self._leases.drop(managed)


def obtain_all(members: Sequence[Member]) -> list[ManagedLease]:
    """
    Obtain the leases of all members, and return them in the order of `members`; on failure the caller drops them.

    Raises:
        LeaseUnsatisfiable, LeaseTimeout, LeaseLost, RequestError: See `Member.obtain`.
    """
    order = sorted(members, key=lambda member: member.key)
    try:
        _obtain_in(order)
    except LeaseTimeout as exc:
        if len(order) == 1:
            raise
        roles = ", ".join(sorted(member.wanted.role for member in order))
        raise LeaseTimeout(f"{exc} ({roles} are leased together, all or none)") from exc.__cause__
    return [member.managed for member in members if member.managed is not None]


def _obtain_in(order: Sequence[Member]) -> None:
    """Obtain all leases in this order; start again with the one that was not available, without any other lease."""
    first, longest = order[0], SHORTEST_PATIENCE
    while True:
        first.obtain(math.inf)  # no other lease is in use
        others = [member for member in order if member is not first]
        missing = next((each for each in others if not each.obtain(random.uniform(longest / 4, longest))), None)
        if missing is None:
            return
        for member in order:
            if member is not missing:  # that one stays in the queue
                member.drop()
        first, longest = missing, min(2 * longest, LONGEST_PATIENCE)


class FailedWaits:
    """Remembers the devices whose wait timed out, or that an access policy refuses: they are not requested again."""

    def __init__(self) -> None:
        self._known: dict[frozenset[tuple[str | None, ...]], LeaseTimeout | LeaseUnsatisfiable] = {}

    @contextmanager
    def not_repeated(self, wanted: Sequence[Wanted]) -> Iterator[None]:
        """
        Run the wait in the `with` block, unless a wait for the same devices has failed before.

        Raises:
            LeaseTimeout, LeaseUnsatisfiable: The wait failed. If it did so before, the same error at once; it contains
                the time.
        """
        devices = frozenset((each.selector, each.exporter, each.lease) for each in wanted)
        if devices in self._known:
            raise self._known[devices].with_traceback(None)
        try:
            yield
        except (LeaseTimeout, LeaseUnsatisfiable) as exc:
            if isinstance(exc, LeaseTimeout) or exc.reason == NO_ACCESS:
                self._known[devices] = exc
            raise

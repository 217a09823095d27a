"""
Acquires the leases of a set of devices: all of them or none; no lease is kept while the set waits for the rest.

All runs request leases in the same order, sorted by what is requested. If the next device is in use, the leases that
the set has are kept for a short random time only. Then they are released, and the set waits without any lease. So two
runs that need the same devices do not block each other. All members share one deadline, that of `--jmp-wait`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pytest_jumpstarter.errors import LeaseTimeout, LeaseUnsatisfiable
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.lease import ManagedLease
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.leases import Leases

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
        self._since = time.monotonic()
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
        except (LeaseUnsatisfiable, LeaseTimeout):
            pass  # an access policy may exclude it, and allow others that match
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


class TimedOutWaits:
    """Remembers the devices whose wait timed out: such waits are not retried."""

    def __init__(self) -> None:
        self._known: dict[frozenset[tuple[str | None, ...]], LeaseTimeout] = {}

    @contextmanager
    def not_repeated(self, wanted: Sequence[Wanted]) -> Iterator[None]:
        """
        Run the wait in the `with` block, unless a wait for the same devices timed out before.

        Raises:
            LeaseTimeout: The wait timed out. If it did so before, the same error at once; it contains the time.
        """
        devices = frozenset((each.selector, each.exporter, each.lease) for each in wanted)
        if devices in self._known:
            raise self._known[devices].with_traceback(None)
        try:
            yield
        except LeaseTimeout as exc:
            self._known[devices] = exc
            raise

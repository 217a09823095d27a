"""
The leases of a set of devices: all of them or none, and nothing held while waiting for the rest.

Everybody asks in the same order, by what is asked for. Who finds the next device taken keeps the one at hand for a
moment only, a random one, then gives it back and waits for the other with empty hands: so two runs that cross do not
block each other, and one of them is through first. All members share one deadline, that of `--jmp-wait`.
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
"""Seconds that what is at hand is kept at most while the next member is not to be had; it doubles from try to try."""


class Member:
    """
    One device of a set, on its way to us.

    Args:
        wanted: What is wanted; the hooks may change it.
        leases: Where its lease is made, and given back if it does not get as far as a test.
        choice: Says which exporter to try first, if any.
    """

    def __init__(self, wanted: Wanted, leases: Leases, choice: Choice) -> None:
        self._since = time.monotonic()
        self._leases = leases
        self._choice = choice
        self.wanted, self._request = leases.request_for(wanted)
        self.managed: ManagedLease | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What all runs sort by: what is asked for, whatever they call it."""
        return self.wanted.exporter or "", self.wanted.selector or "", self.wanted.role

    def obtain(self, patience: float) -> bool:
        """
        Request the lease, if that is not done, and wait for it; tell whether it is Ready after `patience` seconds.

        Raises:
            LeaseUnsatisfiable, LeaseTimeout, LeaseLost, RequestError: See `Waiter.until_ready`.
        """
        if self.managed is None and self._obtain_by_name():
            return True
        if self.managed is None:
            self.managed = self._leases.new(self.wanted, self._request, since=self._since)
        return self.managed.obtain(patience=patience)

    def _obtain_by_name(self) -> bool:
        """Try the exporter that suits best; taken meanwhile, or not for us, it leaves us where we were."""
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
        """Give the lease back, or withdraw the request."""
        managed, self.managed = self.managed, None
        if managed is not None:
            self._leases.drop(managed)


def obtain_all(members: Sequence[Member]) -> list[ManagedLease]:
    """
    Obtain the leases of all members, and return them in the same order; the caller drops them if this fails.

    Raises:
        LeaseUnsatisfiable, LeaseTimeout, LeaseLost, RequestError: As `Member.obtain`; the deadline ends this.
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
    """Obtain all, each in its turn."""
    first, longest = order[0], SHORTEST_PATIENCE
    while True:
        first.obtain(math.inf)  # nothing else is held
        others = [member for member in order if member is not first]
        slow = next((each for each in others if not each.obtain(random.uniform(longest / 4, longest))), None)
        if slow is None:
            return
        for member in order:
            if member is not slow:  # which stays in the queue
                member.drop()
        first, longest = slow, min(2 * longest, LONGEST_PATIENCE)


class TimedOutWaits:
    """Remembers for which devices a wait was in vain."""

    def __init__(self) -> None:
        self._known: dict[frozenset[tuple[str | None, ...]], LeaseTimeout] = {}

    @contextmanager
    def heeded(self, wanted: Sequence[Wanted]) -> Iterator[None]:
        """
        Let devices be acquired, unless the same were waited for before.

        Raises:
            LeaseTimeout: As the first time, at once; it says when that was.
        """
        devices = frozenset((each.selector, each.exporter, each.lease) for each in wanted)
        if devices in self._known:
            raise self._known[devices].with_traceback(None)
        try:
            yield
        except LeaseTimeout as exc:
            self._known[devices] = exc
            raise

"""
The leases of a set of devices: all of them or none, and nothing held while waiting for the rest.

Everybody asks in the same order, by what is asked for. Who finds the next device taken keeps the one at hand for a
moment only, a random one, then gives it back and waits for the other with empty hands: so two runs that cross do not
block each other, and one of them is through first. All members share one deadline, that of `--jmp-wait`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_jumpstarter.errors import LeaseTimeout, LeaseUnsatisfiable
from pytest_jumpstarter.leasing.held import Held
from pytest_jumpstarter.leasing.request import LeaseRequest, Wanted

SHORTEST_PATIENCE = 0.5
LONGEST_PATIENCE = 4.0
"""Seconds that what is at hand is kept at most while the next member is not to be had; it doubles from try to try."""


class Member:
    """
    One device of a set, on its way to us.

    Args:
        open: Returns a lease that is still to be requested.
        drop: Gives a lease back that did not get as far as a test.
        pick: Returns the name of the exporter to try first, if any.
    """

    def __init__(
        self,
        wanted: Wanted,
        request: LeaseRequest | None,
        *,
        open: Callable[[Wanted, LeaseRequest | None], Held],  # noqa: A002 - what it does
        drop: Callable[[Held], None],
        pick: Callable[[Wanted], str | None],
    ) -> None:
        self.wanted = wanted
        self.held: Held | None = None
        self._request = request
        self._open = open
        self._drop = drop
        self._pick = pick

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
        if self.held is None and self._obtain_by_name():
            return True
        if self.held is None:
            self.held = self._open(self.wanted, self._request)
        return self.held.obtain(patience=patience)

    def _obtain_by_name(self) -> bool:
        """Try the exporter that suits best; taken meanwhile, or not for us, it leaves us where we were."""
        name = self._pick(self.wanted) if self._request is not None else None
        if name is None or self._request is None:
            return False
        self.held = self._open(replace(self.wanted, exporter=name), replace(self._request, exporter=name))
        try:
            if self.held.obtain(patience=0.0):
                return True
        except (LeaseUnsatisfiable, LeaseTimeout):
            pass  # an access policy may exclude it, and allow others that match
        self.drop()
        return False

    def drop(self) -> None:
        """Give the lease back, or withdraw the request."""
        held, self.held = self.held, None
        if held is not None:
            self._drop(held)


def obtain_all(members: Sequence[Member]) -> None:
    """
    Obtain the leases of all members; the caller drops them if this fails.

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

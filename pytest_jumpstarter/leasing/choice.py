"""Which exporter a lease is asked for by name: the least capable that will do, and none that was at fault."""

from __future__ import annotations

import random
from collections import Counter

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.availability import Availability
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.selector import Selector

LISTING_TIMEOUT = 1.0
"""Seconds for each page of the listing; where it takes longer, the lab controller chooses."""

_TOO_MANY = 2


class Choice:
    """Remembers which exporters were at fault in this run."""

    def __init__(self) -> None:
        self._faults: Counter[str] = Counter()
        self._last = ""

    def blame(self, exporter: str) -> None:
        """Avoid the exporter until `forgive`, and for good once it was at fault twice."""
        self._faults[exporter] += 1
        self._last = exporter

    def forgive(self) -> None:
        """Avoid no more than what was at fault twice."""
        self._last = ""

    def pick(self, client: Client, wanted: Wanted) -> str | None:
        """
        Return the name of the free exporter that suits best, or None where the selector says as much.

        Best is one that was not at fault, that has the most of what the tests' markers ask for, and the fewest labels
        beyond those that anybody names: so boards that can do more stay free for who needs that. Among equals it is a
        random one.

        Source: jumpstarter.client.v1.ClientService ListExporters, one call for each 100 exporters that match; and
            ListLeases, where one of these tells no status
        """
        if wanted.exporter is not None or wanted.selector is None:
            return None
        try:
            there = Availability.ask(client, [wanted], with_holders=False, timeout=LISTING_TIMEOUT).of(wanted)
        except RequestError:  # the request that follows will tell
            return None
        avoided = {name for name, count in self._faults.items() if count >= _TOO_MANY or name == self._last}
        good = [each for each in there.free if each.name not in avoided]
        selector, *hopes = map(Selector.parse, (wanted.selector, *wanted.hopes))
        named = {term.key for each in (selector, *hopes) for term in each.terms}
        rank = {
            each.name: (sum(bool(hope.unmet(each.labels)) for hope in hopes), len(each.labels.keys() - named))
            for each in good
        }
        best = [name for name in sorted(rank) if rank[name] == min(rank.values())]
        is_choice = len(best) < len(there.free) or not avoided.isdisjoint(each.name for each in there.matching)
        return random.choice(best) if best and is_choice else None

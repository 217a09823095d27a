"""Which exporter is requested by name: the least capable one that fits, and none that had a fault."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Set as AbstractSet
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.availability import Availability
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.replaced import Replaced
from pytest_jumpstarter.selector import Selector

CHOICE_TIMEOUT = 1.0
"""Seconds for each page of the listing; if it takes longer, the lab controller chooses."""

_TOO_MANY_FAULTS = 2


class Choice:
    """
    Chooses exporters, and remembers which of them had a fault in this run.

    Attributes:
        last: The names of exporters that are taken only if no other one is free.
        forbidden: Those that are never chosen: an access policy refuses them to this client, which no listing shows.
        replaced: Those that may be replaced by others with new names.
    """

    def __init__(self) -> None:
        self.last: AbstractSet[str] = frozenset()
        self._faults: Counter[str] = Counter()
        self.forbidden: set[str] = set()
        self.replaced = Replaced()
        self._last = ""

    def blame(self, exporter: str) -> None:
        """Avoid the exporter until `forgive` is called; after its second fault, to the end of the run."""
        self._faults[exporter] += 1
        self._last = exporter

    def forgive(self) -> None:
        """Avoid only exporters that had two faults."""
        self._last = ""

    def forbid(self, client: Client, wanted: Wanted) -> None:
        """
        Note that an access policy refuses a request: the exporter that it names, or every one that matches now.

        Source: jumpstarter.client.v1.ClientService ListExporters, if the request names no exporter
        """
        if wanted.exporter is not None:
            self.forbidden.add(wanted.exporter)
            return
        with suppress(RequestError):
            found = Availability.ask(client, [wanted], with_leases=False, timeout=CHOICE_TIMEOUT).of(wanted)
            self.forbidden |= {each.name for each in found.enabled}

    def pick(self, client: Client, wanted: Wanted) -> str | None:
        """
        Return the name of the best free exporter; None if choosing by name would change nothing.

        The best exporter had no fault, is none of `last`, matches most of the markers of the tests, and has the fewest
        labels that no selector names: so more capable boards stay free for others. Among equals, one is chosen at
        random.

        Source: jumpstarter.client.v1.ClientService ListExporters; and ListLeases, if one of the exporters that match
            has no status
        """
        if wanted.exporter is not None or wanted.selector is None:
            return None
        try:
            candidates = Availability.ask(client, [wanted], with_leases=False, timeout=CHOICE_TIMEOUT).of(wanted)
        except RequestError:  # the request that follows raises the error
            return None
        avoided = {name for name, count in self._faults.items() if count >= _TOO_MANY_FAULTS or name == self._last}
        avoided |= self.forbidden
        good = [each for each in candidates.free if each.name not in avoided]
        selector, *preferred = map(Selector.parse, (wanted.selector, *wanted.preferred))
        named = {term.key for each in (selector, *preferred) for term in each.terms}
        rank = {
            each.name: (
                each.name in self.last,
                sum(bool(one.unmet(each.labels)) for one in preferred),
                len(each.labels.keys() - named),
            )
            for each in good
        }
        best = [name for name in sorted(rank) if rank[name] == min(rank.values())]
        is_choice = len(best) < len(candidates.free) or not avoided.isdisjoint(
            each.name for each in candidates.matching
        )
        return random.choice(best) if best and is_choice else None

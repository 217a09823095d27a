"""
What the lab has: which exporters match, which can be leased, which are free, and who holds the others.

This is the one reading of the lab controller's listings: the exporter that is asked for by name, the lines of those who
wait, `--jmp-check`, `-n auto`, `--jmp-each` and the look ahead while other tests run all take it from here. Access
policies cannot be seen in the listings: only the refusal of a lease tells of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pytest_jumpstarter.errors import ConfigError, RequestError
from pytest_jumpstarter.leasing.hints import hint, listed
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.selector import Selector

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Lease

State = Literal["disabled", "offline", "leased", "not ready", "free"]

_ASSIGNABLE = ("AVAILABLE", "UNSPECIFIED")
_SHOWN = 6
_NO_EXPORTERS = "this client sees no exporter at all; check its namespace, and that exporters are registered there"


class ListedExporter(Protocol):
    """An exporter as a listing of the lab controller tells of it, or a lab file before its lab runs."""

    @property
    def name(self) -> str:
        """Its name in the namespace."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Those that the lab controller shows."""

    @property
    def online(self) -> bool:
        """Whether it has been heard of lately."""

    @property
    def status(self) -> str:
        """What it says of itself; `UNSPECIFIED` where exporter or lab controller is older than 0.8."""

    @property
    def enabled(self) -> bool | None:
        """None where the lab controller does not say: before 0.9 there was no way to disable one."""


def state_of(exporter: ListedExporter, holders: Mapping[str, str]) -> State:
    """
    Return how an exporter stands, in the order in which the lab controller rules exporters out.

    A *disabled* one is leased only by name and with a permission that this plugin never asks for. One that is *not
    ready* has no lease any more, or is about to have one: a hook runs there, or it has not heard yet. Without a status
    (before 0.8) only a lease tells that an exporter is not free.

    Args:
        exporter: The exporter.
        holders: By exporter the client that has leased it.
    Source: the lease reconciler of Jumpstarter's controller
    """
    if exporter.enabled is False:
        return "disabled"
    if not exporter.online or exporter.status == "OFFLINE":
        return "offline"
    if exporter.name in holders:
        return "leased"
    return "free" if exporter.status in _ASSIGNABLE else "not ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """
    The exporters that match one wish, as they stood at one moment.

    `str(candidates)` is for people who wait: how many match, are leased (and by whom) and are offline.

    Attributes:
        matching: Those that match, in whatever state.
        holders: By exporter the client that has leased it, of those that match.
        problem: Why none can be had unless something changes in the lab, and what to do; empty if one can.
    """

    matching: Sequence[ListedExporter] = ()
    holders: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def enabled(self) -> list[ListedExporter]:
        """Those that are not disabled; they may be offline."""
        return [exporter for exporter in self.matching if exporter.enabled is not False]

    @property
    def usable(self) -> list[ListedExporter]:
        """Those that can be leased now or, once somebody gives them back, later: neither disabled nor offline."""
        return self._in_state("free", "leased", "not ready")

    @property
    def free(self) -> list[ListedExporter]:
        """Those that can be leased now."""
        return self._in_state("free")

    @property
    def held_by(self) -> Counter[str]:
        """The clients that have leased what is usable, with how many each."""
        return Counter(self.holders[exporter.name] for exporter in self._in_state("leased"))

    def _in_state(self, *states: State) -> list[ListedExporter]:
        return [exporter for exporter in self.matching if state_of(exporter, self.holders) in states]

    def __str__(self) -> str:
        counts = Counter(state_of(exporter, self.holders) for exporter in self.matching)
        by = f" (by {', '.join(self.held_by)})" if self.held_by else ""
        words = f"{len(self.matching)} match, {counts['leased']} leased{by}, {counts['offline']} offline"
        if counts["disabled"]:
            words += f", {counts['disabled']} disabled"
        if unready := self._in_state("not ready"):
            words += f", {len(unready)} not ready ({', '.join(sorted({exporter.status for exporter in unready}))})"
        return words


class Availability:
    """
    The exporters and leases of a lab at one moment.

    Args:
        listings: By selector what the lab controller lists for it; by None all exporters that the client may see.
        leases: Those of all clients, as far as they were asked for.
    """

    def __init__(self, listings: Mapping[str | None, Sequence[ListedExporter]], leases: Iterable[Lease] = ()) -> None:
        self._listings = listings
        ready = [lease for lease in leases if lease.is_ready and lease.exporter]
        self._holders = {str(lease.exporter): lease.client or "?" for lease in ready}

    @classmethod
    def ask(
        cls,
        client: Client,
        wishes: Iterable[Wanted] | None = None,
        *,
        with_holders: bool = True,
        timeout: float | None = None,
    ) -> Self:
        """
        Ask the lab controller: for exporters, then for leases.

        Args:
            client: A client of the lab.
            wishes: Ask only for what matches the selector of one of these; None asks for all exporters.
            with_holders: Ask for leases even where all exporters tell by their status whether they are free.
            timeout: Seconds for each page of a listing.

        Raises:
            RequestError: It does not answer, or does not let us in.
        Source: jumpstarter.client.v1.ClientService ListExporters (one for each selector), ListLeases
        """
        selectors = dict.fromkeys([None] if wishes is None else [wish.selector for wish in wishes])
        listings = {each: list(client.list_exporters(filter=each, timeout=timeout)) for each in selectors}
        untold = [it for found in listings.values() for it in found if it.status == "UNSPECIFIED"]
        is_unclear = any(state_of(exporter, {}) == "free" for exporter in untold)
        return cls(listings, client.list_leases(timeout=timeout) if with_holders or is_unclear else ())

    @property
    def exporters(self) -> Sequence[ListedExporter]:
        """All that the client may see; none where only some were asked for."""
        return self._listings.get(None, ())

    def of(self, wanted: Wanted) -> Candidates:
        """Return what matches a wish, and how it stands."""
        matching = [it for it in self._matching(wanted.selector) if wanted.exporter in (None, it.name)]
        holders = {it.name: self._holders[it.name] for it in matching if it.name in self._holders}
        candidates = Candidates(matching=matching, holders=holders)
        return replace(candidates, problem=self._problem(wanted, candidates))

    def free_for(self, wishes: Iterable[Wanted]) -> set[str]:
        """Return the names of the exporters that any of these wishes can have now."""
        return {exporter.name for wish in wishes for exporter in self.of(wish).free}

    def complete_sets(self, roles: Iterable[Iterable[Wanted]]) -> int:
        """Return how many sets there are now of one free exporter for each role, by any of the role's wishes."""
        return count_sets([self.free_for(wishes) for wishes in roles])

    def shortage(self, wishes: Sequence[Wanted]) -> str:
        """Return why these cannot be had together, though each alone can; nothing if they can."""
        usable = [{exporter.name for exporter in self.of(wish).usable} for wish in wishes]
        if count_sets(usable, most=1):
            return ""
        words = " and ".join(sorted(f"{wish.role} ({wish})" for wish in wishes))
        there = sorted(set().union(*usable))
        names = listed(there, _SHOWN)
        return (
            f"{words} are leased together, and that takes {len(wishes)} boards at once; "
            f"of the {len(there)} there are ({names}) that is too few: add some, or ask for less in one test"
        )

    def _matching(self, selector: str | None) -> Iterable[ListedExporter]:
        """Return what matches; the lab controller's own word counts first, since it may hide labels from us."""
        if selector is None or selector in self._listings:
            return self._listings[selector]
        parsed = Selector.parse(selector)
        return [exporter for exporter in self._listings[None] if parsed.matches(exporter.labels)]

    def _problem(self, wanted: Wanted, candidates: Candidates) -> str:
        if candidates.usable:
            return ""
        if candidates.matching:
            return _none_usable(wanted, candidates)
        if None in self._listings and not self.exporters:
            return _NO_EXPORTERS
        there_is = hint(wanted, self.exporters) if self.exporters else ""
        return f"{_asked(wanted)} matches none{there_is}"


def _none_usable(wanted: Wanted, candidates: Candidates) -> str:
    """Return words for exporters that match, and are all offline or disabled."""
    states = Counter(state_of(exporter, {}) for exporter in candidates.matching)
    counts = " and ".join(f"{count} {state}" for state, count in states.items())
    names = listed([exporter.name for exporter in candidates.matching], _SHOWN)
    what, remedy = (
        ("none is there", "start `jmp run` there, or ask who runs the lab")
        if states["offline"]
        else ("none can be leased", "ask who runs the lab to enable them")
    )
    return f"of those that match {_asked(wanted)} {what}: {counts} ({names}); {remedy}"


def _asked(wanted: Wanted) -> str:
    return f"{wanted} ({wanted.source})" if wanted.source else str(wanted)


def count_sets(needs: Sequence[AbstractSet[str]], most: int | None = None) -> int:
    """
    Return how many sets there are of one exporter for each need, none of them in two sets or for two needs.

    Args:
        needs: For each need the exporters that will do.
        most: Do not look for more sets than these.
    Source: augmenting paths in a bipartite graph; a need without one belongs to a group that finds too few (Hall)
    """
    free = set().union(*needs)
    taken: list[set[str]] = [set() for _ in needs]
    limits = [len(need) for need in needs] if most is None else [most, *map(len, needs)]
    for count in range(limit := min(limits, default=0)):
        if not all(_serve(need, needs, free, taken) for need in range(len(needs))):
            return count
    return limit


def _serve(first: int, needs: Sequence[AbstractSet[str]], free: set[str], taken: Sequence[set[str]]) -> bool:
    """Let a need take one more exporter, for which others may have to change theirs; tell whether that is possible."""
    came_from: dict[int, tuple[int, str]] = {}
    queue = deque([first])
    while queue:
        need = queue.popleft()
        if spare := free & needs[need]:
            name = spare.pop()
            free.remove(name)
            taken[need].add(name)
            while need != first:
                giver, (need, name) = need, came_from[need]
                taken[giver].remove(name)
                taken[need].add(name)
            return True
        for other, theirs in enumerate(taken):
            if other != first and other not in came_from and (shared := theirs & needs[need]):
                came_from[other] = (need, shared.pop())
                queue.append(other)
    return False


def words_for_waiting(client: Client, wanted: Wanted) -> str:
    """Return words for how things stand, for people who wait; that nobody tells is an answer too."""
    try:
        return str(Availability.ask(client, [wanted]).of(wanted))
    except RequestError as exc:
        return f"nothing known, {exc}"


def look_for(client: Client, wanted: Wanted) -> Candidates:
    """
    Return the exporters that match, if one of them can be had at some time.

    Raises:
        ConfigError: Nothing matches, or all that does is disabled.
        RequestError: The lab controller does not tell.
    """
    candidates = Availability.ask(client, [wanted], with_holders=False).of(wanted)
    if not candidates.matching:
        raise ConfigError(f"no exporter matches {wanted}{what_there_is(client, wanted)}")
    if not candidates.enabled:
        raise ConfigError(candidates.problem)
    return candidates


def candidates_of_lease(client: Client, wanted: Wanted) -> Candidates:
    """
    Return how things stand for a lease that somebody made for us.

    Raises:
        ConfigError: It is not ours to use, or its board is not what is wanted.
    Source: jumpstarter.client.v1.ClientService GetLease, GetExporter
    """
    from pytest_jumpstarter.leasing.identity import check_lease

    lease = check_lease(client, wanted)
    if lease.exporter is None:
        return Candidates()
    exporter = client.get_exporter(lease.exporter)
    check_identity(wanted, exporter.name, exporter.labels, f"lease {lease.name}")
    allowed = replace(exporter, enabled=True)  # its lease is there, so that a disabled one was allowed
    return Candidates(matching=[allowed], holders={exporter.name: str(lease.client)})


def what_there_is(client: Client, wanted: Wanted) -> str:
    """Return words for what this lab has of what `wanted` names, or nothing where that is unknown."""
    try:
        there = Availability.ask(client, with_holders=False)
    except RequestError:
        return ""
    candidates = there.of(wanted)
    are_all_disabled = candidates.matching and not candidates.enabled  # which the lab controller says itself
    return "" if are_all_disabled else hint(wanted, there.exporters)

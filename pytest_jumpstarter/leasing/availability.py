"""
What the lab has: which exporters match, which can be leased, which are free, and who has leased the others.

Only this module evaluates the lab controller's listings. The choice of an exporter, the lines during a wait,
`--jmp-check`, `-n auto`, `--jmp-each` and the check while other tests run all use it. Access policies are not in the
listings: only the refusal of a lease shows them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import ConfigError, RequestError
from pytest_jumpstarter.leasing.hints import hint, listed
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.lease_request import DEFAULT_TTL, Wanted
from pytest_jumpstarter.selector import Selector

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Condition, Lease

State = Literal["disabled", "offline", "leased", "not ready", "free"]

_ASSIGNABLE = ("AVAILABLE", "UNSPECIFIED")
_MOST_NAMES = 6
_PAGE = 1000  # exporters or leases in each answer

NO_ACCESS = "NoAccess"
"""The lab controller's reason if an access policy refuses a lease, or nothing matches."""

LISTING_TIMEOUT = 5.0
"""Seconds for each page of a listing that is only for a message."""

_NO_EXPORTERS = "this client sees no exporter at all; check its namespace, and that exporters are registered there"


class ListedExporter(Protocol):
    """An exporter as in a listing of the lab controller, or as in a lab file before its lab runs."""

    @property
    def name(self) -> str:
        """Its name in the namespace."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that the lab controller shows."""

    @property
    def online(self) -> bool:
        """Whether the lab controller has heard from it recently."""

    @property
    def status(self) -> str:
        """Its status; `UNSPECIFIED` if the exporter or the lab controller is older than 0.8."""

    @property
    def enabled(self) -> bool | None:
        """Whether it is enabled; None if the lab controller is older than 0.9, which cannot disable exporters."""


def state_of(exporter: ListedExporter, clients: Mapping[str, str]) -> State:
    """
    Return the state of an exporter; checked in the order in which the lab controller excludes exporters.

    A *disabled* exporter can only be leased by name, and with `--jmp-allow-disabled`. One that is
    *not ready* is between two leases: a hook is running, or its status is about to change. An exporter older than 0.8
    has no status: it counts as free unless it is leased.

    Args:
        exporter: The exporter.
        clients: The client that has leased an exporter, by the exporter's name.
    Source: the lease reconciler of Jumpstarter's controller
    """
    if exporter.enabled is False:
        return "disabled"
    if not exporter.online or exporter.status == "OFFLINE":
        return "offline"
    if exporter.name in clients:
        return "leased"
    return "free" if exporter.status in _ASSIGNABLE else "not ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """
    The exporters that match what one role needs, at one moment.

    `str(candidates)` is for the lines during a wait: how many match, are leased (and by whom) and are offline.

    Attributes:
        matching: The exporters that match, in any state.
        clients: The client that has leased a matching exporter, by the exporter's name.
        problem: Why none can be leased unless the lab changes, and what to do; empty if one can.
    """

    matching: Sequence[ListedExporter] = ()
    clients: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def enabled(self) -> list[ListedExporter]:
        """The exporters that are not disabled; they may be offline."""
        return [exporter for exporter in self.matching if exporter.enabled is not False]

    @property
    def usable(self) -> list[ListedExporter]:
        """The exporters that can be leased now, or later when they are released: neither disabled nor offline."""
        return self._in_state("free", "leased", "not ready")

    @property
    def free(self) -> list[ListedExporter]:
        """The exporters that can be leased now."""
        return self._in_state("free")

    @property
    def leased_by(self) -> Counter[str]:
        """The clients that have leased usable exporters, with the number of exporters of each."""
        return Counter(self.clients[exporter.name] for exporter in self._in_state("leased"))

    def _in_state(self, *states: State) -> list[ListedExporter]:
        return [exporter for exporter in self.matching if state_of(exporter, self.clients) in states]

    def __str__(self) -> str:
        counts = Counter(state_of(exporter, self.clients) for exporter in self.matching)
        by = f" (by {', '.join(self.leased_by)})" if self.leased_by else ""
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
        listings: The exporters that the lab controller lists for each selector; for None all that the client can see.
        leases: The leases of all clients; empty if they are not needed.
    """

    def __init__(self, listings: Mapping[str | None, Sequence[ListedExporter]], leases: Iterable[Lease] = ()) -> None:
        self._listings = listings
        ready = [lease for lease in leases if lease.is_ready and lease.exporter]
        self._clients = {str(lease.exporter): lease.client or "?" for lease in ready}

    @classmethod
    def ask(
        cls,
        client: Client,
        wanted: Iterable[Wanted] | None = None,
        *,
        with_leases: bool = True,
        most_leases: int | None = None,
        timeout: float | None = None,
    ) -> Self:
        """
        Ask the lab controller for exporters, then for leases.

        Args:
            client: A client of the lab.
            wanted: Ask only for exporters that match the selector of one of these; None asks for all exporters.
            with_leases: Ask for leases even if the status of each exporter shows whether it is free.
            most_leases: Read no more leases than this; None: all.
            timeout: Seconds for each page of a listing.

        Raises:
            RequestError: The lab controller does not answer, or refuses this client.
        Source: jumpstarter.client.v1.ClientService ListExporters (one for each selector), ListLeases
        """
        selectors = dict.fromkeys([None] if wanted is None else [each.selector for each in wanted])
        listings = {
            each: list(client.list_exporters(filter=each, page_size=_PAGE, timeout=timeout)) for each in selectors
        }
        needs_leases = with_leases or any(
            exporter.status == "UNSPECIFIED" and state_of(exporter, {}) == "free"
            for exporters in listings.values()
            for exporter in exporters
        )
        leases = client.list_leases(page_size=_PAGE, timeout=timeout) if needs_leases else ()
        return cls(listings, islice(leases, most_leases))

    @property
    def exporters(self) -> Sequence[ListedExporter]:
        """All exporters that the client can see; empty if only those of some selectors were asked for."""
        return self._listings.get(None, ())

    @property
    def names(self) -> set[str]:
        """The names of all listed exporters."""
        return {each.name for found in self._listings.values() for each in found}

    def without(self, names: AbstractSet[str]) -> Self:
        """Return the same without some exporters."""
        listings = {each: [it for it in found if it.name not in names] for each, found in self._listings.items()}
        left = type(self)(listings)
        left._clients = self._clients
        return left

    def of(self, wanted: Wanted) -> Candidates:
        """Return the exporters that match `wanted`, with their states."""
        matching = [each for each in self._matching(wanted.selector) if wanted.exporter in (None, each.name)]
        if wanted.allow_disabled and wanted.exporter is not None:
            matching = [replace(each, enabled=True) for each in matching]  # type: ignore[type-var]  # all that list exporters are dataclasses
        clients = {each.name: self._clients[each.name] for each in matching if each.name in self._clients}
        candidates = Candidates(matching=matching, clients=clients)
        return replace(candidates, problem=self._problem(wanted, candidates))

    def free_for(self, wanted: Iterable[Wanted]) -> set[str]:
        """Return the names of the exporters that match any of these and can be leased now."""
        return {exporter.name for each in wanted for exporter in self.of(each).free}

    def complete_sets(self, roles: Iterable[Iterable[Wanted]]) -> int:
        """Return how many sets of free exporters there are, with one for each role; a role has several `Wanted`."""
        return count_sets([self.free_for(wanted) for wanted in roles])

    def shortage(self, wanted: Sequence[Wanted]) -> str:
        """Return why these cannot be leased together although each alone can; empty if they can."""
        usable = [{exporter.name for exporter in self.of(each).usable} for each in wanted]
        if count_sets(usable, most=1):
            return ""
        words = " and ".join(sorted(f"{each.role} ({each})" for each in wanted))
        names = sorted(set().union(*usable))
        return (
            f"{words} are leased together and need {len(wanted)} boards at once, but the matching boards are too few: "
            f"{listed(names, _MOST_NAMES)}; add boards, or use fewer devices in one test"
        )

    def _matching(self, selector: str | None) -> Iterable[ListedExporter]:
        """Return the exporters that match; prefer the lab controller's answer, because it may not show all labels."""
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
        instead = hint(wanted, self.exporters) if self.exporters else ""
        return f"{_no_match(wanted)} {_with_source(wanted)}{instead}"


def _none_usable(wanted: Wanted, candidates: Candidates) -> str:
    """Return why none of the matching exporters can be leased: they are all offline or disabled."""
    states = Counter(state_of(exporter, {}) for exporter in candidates.matching)
    counts = " and ".join(f"{count} {state}" for state, count in states.items())
    names = listed([exporter.name for exporter in candidates.matching], _MOST_NAMES)
    needed, remedy = (
        ("online", "start `jmp run` on its host, or ask the administrators of the lab")
        if states["offline"]
        else ("enabled", "ask the administrators of the lab to enable one")
    )
    if wanted.exporter is not None and not states["offline"]:
        remedy = "ask the administrators of the lab to enable it, or lease it as it is with --jmp-allow-disabled"
    asked = _with_source(wanted)
    none_is = f"no exporter that matches {asked} is" if wanted.exporter is None else f"{asked} is not"
    return f"{none_is} {needed}: {counts} ({names}); {remedy}"


def _no_match(wanted: Wanted) -> str:
    return "no exporter matches" if wanted.exporter is None else "there is no"


def _with_source(wanted: Wanted) -> str:
    return f"{wanted} ({wanted.source})" if wanted.source else str(wanted)


def count_sets(needs: Sequence[AbstractSet[str]], most: int | None = None) -> int:
    """
    Return how many sets with one exporter for each need can be formed; each exporter is used only once.

    Args:
        needs: The exporters that fit, for each need.
        most: Stop at this number of sets.
    Source: augmenting paths in a bipartite graph; a need without such a path belongs to a group with too few
        exporters (Hall)
    """
    free = set().union(*needs)
    taken: list[set[str]] = [set() for _ in needs]
    limits = [len(need) for need in needs] if most is None else [most, *map(len, needs)]
    for count in range(limit := min(limits, default=0)):
        if not all(_serve(need, needs, free, taken) for need in range(len(needs))):
            return count
    return limit


def _serve(first: int, needs: Sequence[AbstractSet[str]], free: set[str], taken: Sequence[set[str]]) -> bool:
    """Assign one more exporter to a need, and reassign those of other needs for it; return whether that is possible."""
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


def describe_candidates(client: Client, wanted: Wanted) -> str:
    """
    Return the states of the matching exporters in words, or why they are unknown; for lines during a wait.

    This costs two requests, however many leases are waiting: of the leases, only the first page is read.
    """
    try:
        return str(Availability.ask(client, [wanted], most_leases=_PAGE, timeout=LISTING_TIMEOUT).of(wanted))
    except RequestError as exc:
        return f"their states are unknown: {exc}"


def look_for(client: Client, wanted: Wanted, *, timeout: float | None = None) -> Candidates:
    """
    Return the exporters that match, if one of them can be leased now or later; `timeout` is for each page.

    Raises:
        ConfigError: No exporter matches, or all that match are disabled.
        RequestError: The lab controller does not answer, or refuses this client.
    """
    candidates = Availability.ask(client, [wanted], with_leases=False, timeout=timeout).of(wanted)
    if not candidates.matching:
        raise ConfigError(f"{_no_match(wanted)} {wanted}{hint_for(client, wanted)}")
    if not candidates.enabled:
        raise ConfigError(candidates.problem)
    return candidates


def candidates_of_lease(client: Client, wanted: Wanted) -> Candidates:
    """
    Return the exporter of the existing lease that `wanted` names.

    Raises:
        ConfigError: This client cannot use the lease, or its board does not match `wanted`.
    Source: jumpstarter.client.v1.ClientService GetLease, GetExporter
    """
    from pytest_jumpstarter.leasing.identity import check_lease

    lease = check_lease(client, wanted)
    if lease.exporter is None:
        return Candidates()
    exporter = client.get_exporter(lease.exporter)
    check_identity(wanted, exporter.name, exporter.labels, f"lease {lease.name}")
    allowed = replace(exporter, enabled=True)  # it is leased already, so it does not matter whether it is disabled
    return Candidates(matching=[allowed], clients={exporter.name: str(lease.client)})


def hint_for(client: Client, wanted: Wanted, refusal: Condition | None = None, ttl: float = DEFAULT_TTL) -> str:
    """
    Return why the lab controller refuses a lease, or a hint on what the lab has instead; empty if both are unknown.

    Args:
        client: Asks for the exporters.
        wanted: What is refused.
        refusal: What the lab controller says, if it has refused. Access policies cannot be read, but they are the
            reason if it has no exporter for this client although some match.
        ttl: The time to live of leases, which a policy may not allow.
    """
    try:
        availability = Availability.ask(client, with_leases=False, timeout=LISTING_TIMEOUT)
    except RequestError:
        return ""
    candidates = availability.of(wanted)
    if refusal is not None and refusal.reason == NO_ACCESS and (count := len(candidates.enabled)):
        match = "the exporter that matches" if count == 1 else f"any of the {count} exporters that match"
        return (
            f": by the access policies of the lab, client {client.name} may not use {match}, or not for as long as "
            f"--jmp-ttl asks ({format_duration(ttl)})"
        )
    are_all_disabled = candidates.matching and not candidates.enabled  # the lab controller's own message says so
    return "" if are_all_disabled else hint(wanted, availability.exporters)

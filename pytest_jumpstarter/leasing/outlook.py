"""Whether the lab can serve what is wanted, before anybody asks for a lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pytest_jumpstarter.client.v1 import Client, Exporter
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.request import Wanted
from pytest_jumpstarter.leasing.survey import hint
from pytest_jumpstarter.selector import Selector

_SHOWN = 6
_NO_EXPORTERS = "this client sees no exporter at all; check its namespace, and that exporters are registered there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """
    How the exporters that could serve one wish stand at one moment.

    Attributes:
        matching: Those that match.
        holders: By exporter the client that has leased it, of those that match.
        problem: Why none can ever be had as things are, and what to do; empty if one can.
    """

    matching: Sequence[Exporter] = ()
    holders: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def online(self) -> list[Exporter]:
        """Those that could be leased at some time: online, and not switched off."""
        return [exporter for exporter in self.matching if _is_usable(exporter)]

    @property
    def free(self) -> list[Exporter]:
        """Those that could be leased now."""
        return [exporter for exporter in self.online if exporter.name not in self.holders]


class Outlook:
    """
    The exporters and leases of a lab at one moment.

    Args:
        exporters: All that the client may see.
        holders: By exporter the client that has leased it.
    """

    def __init__(self, exporters: list[Exporter], holders: dict[str, str]) -> None:
        self.exporters = exporters
        self._holders = holders

    @classmethod
    def take(cls, client: Client) -> Self:
        """
        Ask the lab controller, by two listings.

        Raises:
            RequestError: It does not answer, or does not let us in.
        Source: jumpstarter.client.v1.ClientService ListExporters, ListLeases
        """
        exporters = list(client.list_exporters())
        leases = [lease for lease in client.list_leases() if lease.is_ready and lease.exporter]
        return cls(exporters, {str(lease.exporter): lease.client or "?" for lease in leases})

    def of(self, wanted: Wanted) -> Prospect:
        """Return how things stand for one wish."""
        selector = Selector.parse(wanted.selector) if wanted.selector is not None else None
        named = [exporter for exporter in self.exporters if wanted.exporter in (None, exporter.name)]
        matching = [exporter for exporter in named if selector is None or selector.matches(exporter.labels)]
        holders = {each.name: self._holders[each.name] for each in matching if each.name in self._holders}
        prospect = Prospect(matching=matching, holders=holders)
        if not self.exporters:
            return Prospect(problem=_NO_EXPORTERS)
        if not matching:
            return Prospect(problem=f"{wanted} ({wanted.source}) matches none{hint(wanted, self.exporters)}")
        if not prospect.online:
            states = Counter("offline" if not each.online else "switched off" for each in matching)
            words = " and ".join(f"{count} {state}" for state, count in states.items())
            problem = (
                f"of those that match {wanted} ({wanted.source}) none is there: {words} "
                f"({_listed([each.name for each in matching])}); start `jmp run` there, or ask who runs the lab"
            )
            return replace(prospect, problem=problem)
        return prospect

    def shortage(self, wanted: Sequence[Wanted]) -> str:
        """Return why these cannot be had together, though each alone can; nothing if they can."""
        usable = [[each.name for each in self.of(wish).online] for wish in wanted]
        taken: dict[str, int] = {}

        def place(position: int, seen: set[str]) -> bool:
            """Give a wish an exporter, for which others may have to take another of theirs."""
            for name in usable[position]:
                if name not in seen:
                    seen.add(name)
                    if name not in taken or place(taken[name], seen):
                        taken[name] = position
                        return True
            return False

        if all(place(position, set()) for position in range(len(wanted))):
            return ""
        wishes = " and ".join(sorted(f"{wish.role} ({wish})" for wish in wanted))
        there = sorted({name for names in usable for name in names})
        return (
            f"{wishes} are leased together, and that takes {len(wanted)} boards at once; "
            f"of the {len(there)} there are ({_listed(there)}) that is too few: add some, or ask for less in one test"
        )


def adopted(client: Client, wanted: Wanted) -> Prospect:
    """
    Return how things stand for an existing lease.

    Raises:
        ConfigError: It is not ours to use, or its board is not what is wanted.
    Source: jumpstarter.client.v1.ClientService GetLease, GetExporter
    """
    from pytest_jumpstarter.leasing.adopted import check_lease

    lease = check_lease(client, wanted)
    if lease.exporter is None:
        return Prospect()
    exporter = client.get_exporter(lease.exporter)
    check_identity(wanted, exporter.name, exporter.labels, f"lease {lease.name}")
    return Prospect(matching=[exporter], holders={exporter.name: str(lease.client)})


def _is_usable(exporter: Exporter) -> bool:
    return exporter.online and exporter.enabled is not False


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"

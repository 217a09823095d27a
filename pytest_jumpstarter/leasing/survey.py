"""Who holds the exporters that match: for people who wait, or whose selector matches nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches

from pytest_jumpstarter.client.v1 import Client, Exporter
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.request import Wanted
from pytest_jumpstarter.selector import Selector, Term

_SHOWN_VALUES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """
    How the exporters that match stand at one moment.

    Attributes:
        matching: Number of exporters that match.
        offline: Number of these that are offline.
        holders: The clients that hold a lease on one of these, one entry a lease.
        trouble: Why this could not be found out; empty if it could.
    """

    matching: int = 0
    offline: int = 0
    holders: tuple[str, ...] = ()
    trouble: str = ""

    @classmethod
    def take(cls, client: Client, wanted: Wanted) -> Survey:
        """Ask the lab controller: two listings (ListExporters, ListLeases); its failure is an answer too."""
        try:
            exporters = matching_exporters(client, wanted)
            names = {exporter.name for exporter in exporters}
            leases = [lease for lease in client.list_leases() if lease.is_ready and lease.exporter in names]
        except RequestError as exc:
            return cls(trouble=str(exc))
        return cls(
            matching=len(exporters),
            offline=sum(not exporter.online for exporter in exporters),
            holders=tuple(lease.client or "?" for lease in leases),
        )

    def __str__(self) -> str:
        if self.trouble:
            return f"nothing known, {self.trouble}"
        by = f" (by {', '.join(dict.fromkeys(self.holders))})" if self.holders else ""
        return f"{self.matching} match, {len(self.holders)} leased{by}, {self.offline} offline"


def matching_exporters(client: Client, wanted: Wanted) -> list[Exporter]:
    """Return the exporters that could serve `wanted`."""
    exporters = client.list_exporters(filter=wanted.selector)
    return [exporter for exporter in exporters if wanted.exporter in (None, exporter.name)]


def what_there_is(client: Client, wanted: Wanted) -> str:
    """Return words for what this lab has of what `wanted` names, or nothing where that is unknown."""
    try:
        return hint(wanted, list(client.list_exporters()))
    except RequestError:
        return ""


def hint(wanted: Wanted, exporters: list[Exporter]) -> str:
    """Return words for what there is among `exporters` of what `wanted` names, each part after a semicolon."""
    found = [exporter for exporter in exporters if exporter.name == wanted.exporter]
    if wanted.exporter is not None and not found:
        return f"; the lab has {_names(wanted.exporter, exporters)}"
    terms = {term.key: term for term in Selector.parse(wanted.selector).terms} if wanted.selector else {}
    if found:
        return "".join(f"; it has {_label(key, found[0])}" for key in terms)
    unmet = [term for term in terms.values() if not any(term.matches(each.labels) for each in exporters)]
    return "".join(f"; {_values(term, exporters)}" for term in unmet or terms.values())


def _names(wanted: str, exporters: list[Exporter]) -> str:
    """Return names of exporters, those first that are like the one that is not there."""
    names = sorted((exporter.name for exporter in exporters), key=lambda name: -_likeness(name, wanted))
    more = f" and {len(names) - _SHOWN_VALUES} more" if len(names) > _SHOWN_VALUES else ""
    return f"{', '.join(names[:_SHOWN_VALUES])}{more}" if names else "no exporters"


def _likeness(name: str, wanted: str) -> float:
    return SequenceMatcher(None, name, wanted).quick_ratio()


def _label(key: str, exporter: Exporter) -> str:
    return f"{key}={exporter.labels[key]}" if key in exporter.labels else f"no label {key!r}"


def _values(term: Term, exporters: list[Exporter]) -> str:
    """Return the values that a label has, or the one that is likely meant."""
    counts = Counter(exporter.labels[term.key] for exporter in exporters if term.key in exporter.labels)
    if not counts:
        near = get_close_matches(term.key, {key for exporter in exporters for key in exporter.labels}, n=1)
        return f"no exporter has a label {term.key!r}{f', did you mean {near[0]!r}?' if near else ''}"
    near = get_close_matches("".join(term.values[:1]), set(counts) - set(term.values), n=1)
    if near and not any(value in counts for value in term.values):
        return f"did you mean {term.key}={near[0]} ({counts[near[0]]})?"
    shown = ", ".join(f"{term.key}={value} ({count})" for value, count in counts.most_common(_SHOWN_VALUES))
    more = f" and {len(counts) - _SHOWN_VALUES} more" if len(counts) > _SHOWN_VALUES else ""
    return f"the lab has {shown}{more}"

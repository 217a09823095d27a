"""Who holds the exporters that match: for people who wait, or whose selector matches nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pytest_jumpstarter.client.v1 import Client, Exporter
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.request import Wanted
from pytest_jumpstarter.selector import Selector

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


def labels_that_exist(client: Client, wanted: Wanted) -> str:
    """Return words for the values that the selector's labels have in this lab, or nothing where that is unknown."""
    if wanted.selector is None:
        return ""
    try:
        exporters = list(client.list_exporters())
    except RequestError:
        return ""
    keys = dict.fromkeys(term.key for term in Selector.parse(wanted.selector).terms)
    return "".join(f"; {_values(key, exporters)}" for key in keys)


def _values(key: str, exporters: list[Exporter]) -> str:
    counts = Counter(exporter.labels[key] for exporter in exporters if key in exporter.labels)
    if not counts:
        return f"no exporter has a label {key!r}"
    shown = ", ".join(f"{key}={value} ({count})" for value, count in counts.most_common(_SHOWN_VALUES))
    return f"there are {shown}"

"""
Exporters that are replaced after each lease by others with new names (ExporterSets).

An exporter is taken for replaced only if all of this holds: it was there in this run, it is gone, its name is one that
Kubernetes generated, and the exporter that comes in its place matches the selector, has the name of the same set, and
was not there before. Between the two there may be none for a while.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_jumpstarter.client.exporter_sets import set_of
from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.availability import LISTING_TIMEOUT, Availability
from pytest_jumpstarter.leasing.lease_request import Wanted

_NOT_FOUND, _NO_MATCH = "ExporterNotFound", "NoAccess"


class Replaced:
    """The exporters of sets that this run has used."""

    def __init__(self) -> None:
        self._used: dict[str, str] = {}  # the last exporter of a set by the selector with which it was leased

    def note(self, wanted: Wanted, exporter: str) -> None:
        """Note the exporter of a lease."""
        if wanted.selector is not None and set_of(exporter):
            self._used[wanted.selector] = exporter

    def gone(self, wanted: Wanted, reason: str) -> str:
        """
        Return the exporter that is gone and may be replaced; empty if there is none.

        Args:
            wanted: What was requested.
            reason: The lab controller's reason for the refusal.
        """
        if reason == _NOT_FOUND and wanted.exporter is not None and wanted.exporter in wanted.listed:
            return wanted.exporter if set_of(wanted.exporter) else ""
        if reason == _NO_MATCH and wanted.exporter is None and wanted.selector is not None:
            return self._used.get(wanted.selector, "")
        return ""


def replacement_for(gone: str, client: Client, wanted: Wanted) -> str:
    """Return an exporter that replaces the one that is gone, a free one if possible; empty if there is none yet."""
    any_of_set = replace(wanted, exporter=None)
    try:
        candidates = Availability.ask(client, [any_of_set], with_leases=False, timeout=LISTING_TIMEOUT).of(any_of_set)
    except RequestError:
        return ""
    usable = [*candidates.free, *candidates.usable]
    new = [each.name for each in usable if set_of(each.name) == set_of(gone) and each.name not in wanted.listed]
    return next(iter(new), "")

"""Which exporter a lease is asked for by name, so that a faulty one is avoided."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.leasing.request import Wanted

CHOSEN_TIMEOUT = 10.0
"""Seconds to wait for an exporter that was free a moment ago; then any that matches will do."""

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
        Return the name of a free exporter, or None where there is none, or nothing that matches is to be avoided.

        Source: jumpstarter.client.v1.ClientService ListExporters, ListLeases
        """
        avoided = {name for name, count in self._faults.items() if count >= _TOO_MANY or name == self._last}
        if not avoided or wanted.exporter is not None:
            return None
        with suppress(RequestError):  # the request that follows will tell
            exporters = list(client.list_exporters(filter=wanted.selector))
            if avoided.isdisjoint(exporter.name for exporter in exporters):
                return None
            taken = {lease.exporter for lease in client.list_leases() if lease.is_ready}
            free = [
                exporter.name
                for exporter in exporters
                if exporter.online and exporter.status in ("AVAILABLE", "UNSPECIFIED")
            ]
            return random.choice(sorted(set(free) - taken - avoided) or [None])
        return None

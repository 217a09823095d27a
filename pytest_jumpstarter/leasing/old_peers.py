"""What peers older than ours lack: worked around, and told once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client
    from pytest_jumpstarter.leasing.lease import ManagedLease


class OldPeers:
    """
    Tells people, once for each, what an old peer cannot do and what that means for them.

    Args:
        client: The client that leases are made with.
        say: Shows a line to people.
    """

    def __init__(self, client: Client, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self._told: set[str] = set()

    def look(self, managed: ManagedLease) -> None:
        """Look at a lease that is ready, and at its exporter."""
        for lack in _of(managed, self._client):
            if lack not in self._told:
                self._told.add(lack)
                self._say(lack)


def _of(managed: ManagedLease, client: Client) -> Iterator[str]:
    """Source: jumpstarter.client.v1 Exporter.status (since 0.8), Lease.tags (since 0.9)."""
    if managed.exporter is not None and managed.exporter.status == "UNSPECIFIED":
        yield (
            f"exporter {managed.exporter.name} is older than Jumpstarter 0.8: it tells no status and runs no hooks, "
            "and counts as ready as soon as it is online"
        )
    if managed.has_lost_tags:
        who = "lab controller" if client.supports("Lease.tags") else "jumpstarter-protocol installed here"
        yield f"the {who} is older than Jumpstarter 0.9: leases have no tags, so nobody sees there which run holds them"

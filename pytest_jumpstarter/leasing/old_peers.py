"""What old lab controllers, exporters and stubs lack; reported once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client
    from pytest_jumpstarter.leasing.lease import ManagedLease


class OldPeers:
    """
    Reports what an old lab controller or exporter cannot do and what that means; each line only once.

    Args:
        client: The client that requests leases.
        say: Shows a line to the user.
    """

    def __init__(self, client: Client, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self._reported: set[str] = set()

    def check(self, managed: ManagedLease) -> None:
        """Report what the lab controller and the exporter of a lease that is ready cannot do."""
        for line in _lacks_of(managed, self._client):
            if line not in self._reported:
                self._reported.add(line)
                self._say(line)


def _lacks_of(managed: ManagedLease, client: Client) -> Iterator[str]:
    """
    Yield a line for everything that is missing.

    Source: jumpstarter.client.v1 Exporter.status (since 0.8), Lease.tags (since 0.9)
    """
    if managed.exporter is not None and managed.exporter.status == "UNSPECIFIED":
        yield (
            f"exporter {managed.exporter.name} is older than Jumpstarter 0.8: it reports no status and runs no hooks, "
            "so it counts as ready as soon as it is online"
        )
    if managed.has_lost_tags:
        who = "lab controller" if client.supports("Lease.tags") else "jumpstarter-protocol installed here"
        yield f"the {who} is older than Jumpstarter 0.9: leases have no tags, so the lab cannot show whose they are"

"""`Adopted`: an existing lease that somebody made for us."""

from __future__ import annotations

import math

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import ConfigError, LeaseUnsatisfiable, NotFound
from pytest_jumpstarter.leasing.connect import Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.held import Held
from pytest_jumpstarter.leasing.request import Wanted


class Adopted(Held):
    """An existing lease that somebody made for us (`--jmp-lease`, `JMP_LEASE`): used, never extended or released."""

    is_ours = False

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        *,
        events: Events,
        connector: Connector,
        since: float | None = None,
    ) -> None:
        super().__init__(client, wanted, str(wanted.lease), events=events, connector=connector, since=since)

    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Check that the lease is ours to use, and wait until it is Ready.

        Raises:
            ConfigError: See `check_lease`.
            LeaseTimeout, LeaseLost: See `Waiter.until_ready`.
        """
        check_lease(self._client, self.wanted)
        self._connector.warm_up()
        with self._or_given_back():
            return self._until_ready(patience)


def check_lease(client: Client, wanted: Wanted) -> Lease:
    """
    Return the existing lease that is wanted, if it is ours to use.

    Raises:
        ConfigError: There is no such lease, it has ended, or it belongs to another client.
    Source: jumpstarter.client.v1.ClientService GetLease
    """
    asked = f"{wanted.lease} ({wanted.lease_source})"
    try:
        lease = client.get_lease(str(wanted.lease))
    except NotFound as exc:
        raise ConfigError(f"lease {asked} does not exist; jmp get leases shows those that do") from exc
    if lease.client != client.name:
        raise ConfigError(f"lease {asked} belongs to client {lease.client!r}, and we are {client.name!r}")
    if lease.is_ended:
        why = f": {lease.refusal.message}" if lease.refusal else ""
        raise LeaseUnsatisfiable(f"lease {asked} has already ended{why}")
    return lease

"""`Adopted`: an existing lease that somebody made for us."""

from __future__ import annotations

import math
from collections.abc import Callable

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device.hook_log import HookLog
from pytest_jumpstarter.errors import ConfigError, LeaseUnsatisfiable, NotFound
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
        say: Callable[[str], None],
        listen: Callable[[Held], HookLog],
        on_pending: Callable[[], None],
        since: float | None = None,
    ) -> None:
        super().__init__(client, wanted, str(wanted.lease), say=say, listen=listen, since=since)
        self._on_pending = on_pending

    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Check that the lease is ours to use, and wait until it is Ready.

        Raises:
            ConfigError: There is no such lease, it has ended, or it belongs to another client.
            LeaseTimeout, LeaseLost: See `Waiter.until_ready`.
        """
        self._check()
        self._on_pending()
        with self._or_given_back():
            return self._until_ready(patience)

    def _check(self) -> None:
        asked = f"{self.name} ({self.wanted.lease_source})"
        try:
            lease = self._client.get_lease(self.name)
        except NotFound as exc:
            raise ConfigError(f"lease {asked} does not exist; jmp get leases shows those that do") from exc
        if lease.client != self._client.name:
            raise ConfigError(f"lease {asked} belongs to client {lease.client!r}, and we are {self._client.name!r}")
        if lease.is_ended:
            why = f": {lease.refusal.message}" if lease.refusal else ""
            raise LeaseUnsatisfiable(f"lease {asked} has already ended{why}")

"""`ControllerSource`: devices leased from a lab controller, a production one or the embedded lab's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.errors import LeaseTimeout
from pytest_jumpstarter.leasing.acquire import Member, TimedOutWaits, obtain_all
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.connect import Connector, ConsolePolicy, only_in_this_process
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.leasing.leases import Leases
from pytest_jumpstarter.leasing.old_peers import OldPeers

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease
    from pytest_jumpstarter.leasing.lease import ManagedLease, Reservation


class ControllerSource:
    """
    Devices leased from a lab controller, or under a lease that somebody else made for us.

    Args:
        client: The client that leases are made with.
        config: Where it came from; it also says which driver clients may be imported.
        events: Told what happens.
        ids: Names for the leases of this run.
        terms: For how long leases are asked for, and held.
        healths: Where the state of each role's device is noted.
        choice: Says which exporters to avoid; None avoids none.
        consoles: What holds for all consoles; None for what usually does.
    """

    def __init__(
        self,
        client: Client,
        config: ClientConfig,
        *,
        events: Events,
        ids: LeaseIds,
        terms: Terms,
        healths: dict[str, Health],
        choice: Choice | None = None,
        consoles: ConsolePolicy | None = None,
    ) -> None:
        self._events = events
        self._healths = healths
        self._choice = choice or Choice()
        self._connector = Connector(
            policy=_policy(config), consoles=consoles or ConsolePolicy(), events=events, healths=healths
        )
        self._leases = Leases(client, events=events, ids=ids, terms=terms, healths=healths, connector=self._connector)
        self._refusals = TimedOutWaits()
        self._lacks = OldPeers(client, events.say)

    @contextmanager
    def device(self, wanted: Wanted) -> Iterator[Device]:
        """Yield one device; see `devices`."""
        with self.devices([wanted]) as devices:
            yield devices[wanted.role]

    @contextmanager
    def devices(self, wanted: Sequence[Wanted]) -> Iterator[dict[str, Device]]:
        """
        Lease all or none, connect, yield by role; then put away and give back, in that order, whatever happens.

        Raises:
            ConfigError, DeviceError, RequestError: See `obtain_all`, `ManagedLease.prepare`, `Connector.connect`.
        """
        with ExitStack() as stack:
            leases = self._acquire(wanted, stack)
            for each, managed in zip(wanted, leases, strict=True):  # before one is connected: the wait is over for all
                self._announce(managed, each)
            devices = {
                managed.wanted.role: self._connector.connect(managed.wanted.role, managed, stack) for managed in leases
            }
            with only_in_this_process(stack):
                yield devices

    def _acquire(self, wanted: Sequence[Wanted], stack: ExitStack) -> list[ManagedLease]:
        """Acquire all leases, and wait until their exporters are ready; `stack` gives them back."""
        members = [Member(each, self._leases, self._choice) for each in wanted]
        self._events.on_wait(wanted)
        try:
            with self._refusals.heeded(wanted):
                leases = obtain_all(members)
        except BaseException as exc:
            for member in members:
                member.drop()
            if isinstance(exc, LeaseTimeout):
                self._events.on_no_device(" and ".join(map(str, wanted)), exc)
            raise
        finally:
            self._events.on_wait_over()
        for managed in leases:
            stack.callback(self._leases.give_back, managed)
            self._leases.keep(managed)
        for managed in leases:
            managed.prepare()
        return leases

    def _announce(self, managed: ManagedLease, wanted: Wanted) -> None:
        """Tell of a lease that is ready; one that somebody else made only if its board is what is wanted."""
        assert managed.lease is not None
        self._healths[wanted.role] = Health(managed)
        if not managed.is_ours:  # the lab controller checked the others
            check_identity(wanted, managed.identity.name, managed.identity.labels, f"lease {managed.name}")
        self._lacks.look(managed)
        self._events.on_acquired(managed.lease, wanted.role)

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return [managed.lease for managed in self._leases.managed if managed.lease is not None]

    def foresee(self, wanted: Wanted) -> Wanted:
        """
        Return what would be asked of the lab controller, after the hooks had their say; ask nothing.

        Raises:
            ConfigError: Nothing says which exporter the role needs.
        """
        return self._leases.request_for(wanted)[0]

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Leave the boards of some roles to people, for `duration` seconds; return those, and why others cannot be."""
        return self._leases.reserve(roles, duration)

    def release_all(self) -> None:
        """Give back every lease of ours at once, without waiting for anything else; for a signal, in a thread."""
        self._leases.release_all()

    def close(self) -> None:
        """Give back every lease that a fixture left behind, and end the event loop."""
        with ExitStack() as stack:
            stack.callback(self._connector.close)
            stack.callback(self._leases.close)


def _policy(config: ClientConfig) -> DriverPolicy:
    """Return which driver clients may be imported, as the client config says."""
    allowed_by = f"drivers.allow of {config.source}" if config.path else "JMP_DRIVERS_ALLOW in the environment"
    return DriverPolicy(allow=config.driver_allow, unsafe=config.driver_unsafe, source=allowed_by)

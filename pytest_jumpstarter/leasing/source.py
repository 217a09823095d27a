"""`ControllerSource`: devices leased from a lab controller, a production one or the embedded lab's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.errors import LeaseTimeout
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.connect import Connector, ConsolePolicy, only_in_this_process
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.lacks import Lacks
from pytest_jumpstarter.leasing.leases import Leases
from pytest_jumpstarter.leasing.refusals import Refusals
from pytest_jumpstarter.leasing.request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.leasing.together import Member, obtain_all

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease
    from pytest_jumpstarter.leasing.held import Held
    from pytest_jumpstarter.leasing.reservation import Reservation


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
        self._refusals = Refusals()
        self._lacks = Lacks(client, events.say)

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
            ConfigError, DeviceError, RequestError: See `obtain_all`, `Held.prepare`, `Connector.connect`.
        """
        with ExitStack() as stack:
            leases = self._acquire(wanted, stack)
            for each, held in zip(wanted, leases, strict=True):  # before one is connected: the wait is over for all
                self._announce(held, each)
            devices = {held.wanted.role: self._connector.connect(held.wanted.role, held, stack) for held in leases}
            with only_in_this_process(stack):
                yield devices

    def _acquire(self, wanted: Sequence[Wanted], stack: ExitStack) -> list[Held]:
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
        for held in leases:
            stack.callback(self._leases.give_back, held)
            self._leases.keep(held)
        for held in leases:
            held.prepare()
        return leases

    def _announce(self, held: Held, wanted: Wanted) -> None:
        """Tell of a lease that is ready; one that somebody else made only if its board is what is wanted."""
        assert held.lease is not None
        self._healths[wanted.role] = Health(held)
        if not held.is_ours:  # the lab controller checked the others
            check_identity(wanted, held.identity.name, held.identity.labels, f"lease {held.name}")
        self._lacks.look(held)
        self._events.on_acquired(held.lease, wanted.role)

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return [held.lease for held in self._leases.held if held.lease is not None]

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

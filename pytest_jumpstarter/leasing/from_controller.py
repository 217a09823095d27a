"""`ControllerSource`: devices leased from a lab controller: a production lab's or the embedded lab's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.errors import LeaseTimeout
from pytest_jumpstarter.leasing.acquire import FailedWaits, Member, obtain_all
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings, only_in_this_process
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
    Devices leased from a lab controller, or used under an existing lease.

    Args:
        client: The client that requests leases.
        config: Its client config, which also says which driver clients may be imported.
        events: Receives what happens.
        ids: Creates the names of leases.
        terms: The time to live of leases, and the longest time that they may be in use.
        healths: The health of each role's device; filled here.
        choice: Chooses exporters; None: none is avoided.
        settings: Settings of all devices; None for the defaults.
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
        settings: DeviceSettings | None = None,
    ) -> None:
        self._events = events
        self._healths = healths
        self._choice = choice or Choice()
        self._connector = Connector(
            policy=_policy(config), settings=settings or DeviceSettings(), events=events, healths=healths
        )
        self._leases = Leases(client, events=events, ids=ids, terms=terms, healths=healths, connector=self._connector)
        self._failed_waits = FailedWaits()
        self._old_peers = OldPeers(client, events.say_once)

    @contextmanager
    def device(self, wanted: Wanted) -> Iterator[Device]:
        """Yield one device; see `devices`."""
        with self.devices([wanted]) as devices:
            yield devices[wanted.role]

    @contextmanager
    def devices(self, wanted: Sequence[Wanted]) -> Iterator[dict[str, Device]]:
        """
        Lease all devices or none, connect them and yield them by role; at the end, close and release them.

        Raises:
            ConfigError, DeviceError, RequestError: See `obtain_all`, `ManagedLease.prepare`, `Connector.connect`.
        """
        with ExitStack() as stack:
            connections = stack.enter_context(ExitStack())
            leases = self._acquire(wanted, stack)
            for each, managed in zip(wanted, leases, strict=True):  # for all before the first connection
                self._announce(managed, each)
            devices = {}
            for managed in leases:
                role = managed.wanted.role
                devices[role] = self._connector.connect(role, managed, stack, connections)
                managed.log = connected(devices[role]).log
            with only_in_this_process(stack):
                yield devices

    def _acquire(self, wanted: Sequence[Wanted], stack: ExitStack) -> list[ManagedLease]:
        """Acquire all leases, and wait until their exporters are ready; `stack` releases them."""
        members = [Member(each, self._leases, self._choice) for each in wanted]
        self._choice.forbidden |= set(self._events.refused_exporters())
        known = set(self._choice.forbidden)
        self._events.on_wait(wanted)
        try:
            with self._failed_waits.not_repeated(wanted):
                leases = obtain_all(members)
        except BaseException as exc:
            for member in members:
                member.drop()
            if isinstance(exc, LeaseTimeout):
                self._events.on_no_device(" and ".join(map(str, wanted)), exc)
            raise
        finally:
            self._events.on_wait_over()
            if new := self._choice.forbidden - known:
                self._events.on_refused(sorted(new))
        for managed in leases:
            stack.callback(self._leases.await_after_hook, managed)
        for managed in leases:
            stack.callback(self._leases.release, managed)
            self._leases.keep(managed)
        for managed in leases:
            managed.prepare()
            self._choice.replaced.note(managed.wanted, managed.identity.name)
        return leases

    def _announce(self, managed: ManagedLease, wanted: Wanted) -> None:
        """Report that a lease is ready; if somebody else created it, first check that its board matches `wanted`."""
        assert managed.lease is not None
        self._healths[wanted.role] = Health(managed)
        if not managed.is_ours:  # the lab controller matched the others
            check_identity(wanted, managed.identity.name, managed.identity.labels, f"lease {managed.name}")
        self._old_peers.check(managed)
        self._events.on_acquired(managed.lease, wanted.role)

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return [managed.lease for managed in self._leases.managed if managed.lease is not None]

    def foresee(self, wanted: Wanted) -> Wanted:
        """
        Return what would be requested, with the changes of the hooks; nothing is sent.

        Raises:
            ConfigError: Neither a selector nor an exporter is configured for the role.
        """
        return self._leases.request_for(wanted)[0]

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Keep the boards of some roles for people, for `duration` seconds; return these leases, and the failures."""
        return self._leases.reserve(roles, duration)

    def release_all(self) -> None:
        """Release every lease of this process at once, without waiting for hooks; after a signal, in a thread."""
        self._leases.release_all()

    def close(self) -> None:
        """Release every lease that is still in use, and end the event loop."""
        with ExitStack() as stack:
            stack.callback(self._connector.close)
            stack.callback(self._leases.close)


def _policy(config: ClientConfig) -> DriverPolicy:
    """Return which driver clients may be imported, according to the client config."""
    allowed_by = f"drivers.allow of {config.source}" if config.path else "JMP_DRIVERS_ALLOW in the environment"
    return DriverPolicy(allow=config.driver_allow, unsafe=config.driver_unsafe, source=allowed_by)

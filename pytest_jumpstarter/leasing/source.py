"""`ControllerSource`: devices leased from a lab controller, a production one or the embedded lab's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, warm_up
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import (
    ClientConfigError,
    ConfigError,
    DeviceError,
    JumpstarterError,
    LeaseLost,
    LeaseTimeout,
    RequestError,
)
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.deferral import Deferral
from pytest_jumpstarter.leasing.events import Events, only_in_this_process, put_away
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import check_identity
from pytest_jumpstarter.leasing.keeper import Keeper
from pytest_jumpstarter.leasing.lacks import Lacks
from pytest_jumpstarter.leasing.refusals import Refusals
from pytest_jumpstarter.leasing.request import LeaseIds, LeaseRequest, Terms, Wanted
from pytest_jumpstarter.leasing.tags import lease_context, lease_tags
from pytest_jumpstarter.leasing.together import Member, obtain_all
from pytest_jumpstarter.origin import Origin

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease
    from pytest_jumpstarter.device.tunnel import Tunnel
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
        choice: Says which exporters to avoid; None avoids none.
        healths: Where the state of each role's device is noted.
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
    ) -> None:
        self.client = client
        self._healths = healths
        self._config = config
        self._grpc_options = config.grpc_options
        allowed_by = f"drivers.allow of {config.source}" if config.path else "JMP_DRIVERS_ALLOW in the environment"
        self._policy = DriverPolicy(allow=config.driver_allow, unsafe=config.driver_unsafe, source=allowed_by)
        self._events = events
        self._ids = ids
        self._portal = Portal()
        self._warming: threading.Thread | None = None
        self._terms = terms
        self._keeper = Keeper(ttl=terms.ttl)
        client.renew = client.renew or self._token_now
        self._held: list[Held] = []
        self._is_urgent = False
        self._refusals = Refusals()
        self._choice = choice or Choice()
        self._deferral = Deferral()
        self._lacks = Lacks(client, events.say)

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return [held.lease for held in self._held if held.lease is not None]

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
            ConfigError, DeviceError, RequestError: See `obtain_all`, `Held.prepare`, `ExporterConnection.open_tunnel`.
        """
        with ExitStack() as stack:
            leases = self._acquire(wanted, stack)
            for each, held in zip(wanted, leases, strict=True):  # before one is connected: the wait is over for all
                self._announce(held, each)
            devices = {each.role: self._make(held, each, stack) for each, held in zip(wanted, leases, strict=True)}
            with only_in_this_process(stack), self._deferral.keep_back(leases, stack):
                yield devices

    def foresee(self, wanted: Wanted) -> Wanted:
        """
        Return what would be asked of the lab controller, after the hooks had their say; ask nothing.

        Raises:
            ConfigError: Nothing says which exporter the role needs.
        """
        return wanted if wanted.lease is not None else _as_requested(wanted, self._request(wanted))

    def _make(self, held: Held, wanted: Wanted, stack: ExitStack) -> Device:
        """Make the device of a lease that is ready; `stack` puts it away."""
        device = self._connect(held, self._healths[wanted.role], wanted.role, stack)
        self._events.on_ready(device)
        return device

    def _announce(self, held: Held, wanted: Wanted) -> None:
        """Tell of a lease that is ready, if its board is what is wanted."""
        self._healths[wanted.role] = Health(held)
        self._check(held, wanted)
        self._lacks.look(held)
        assert held.lease is not None
        self._events.on_acquired(held.lease, wanted.role)

    def close(self) -> None:
        """Give back every lease that a fixture left behind, and end the event loop."""
        with ExitStack() as stack:
            stack.callback(self._portal.stop)
            stack.callback(self._keeper.stop)
            for held in list(self._held):
                stack.callback(self._give_back, held, "")
            stack.callback(self._deferral.end)

    def defer(self, roles: Collection[str]) -> bool:
        """Let the boards of these roles not go back until `undefer` or `reserve`; tell whether there are any."""
        return self._deferral.begin([held for held in self._held if held.wanted.role in roles and held.exporter])

    def undefer(self) -> None:
        """Give back what would have gone back meanwhile."""
        self._deferral.end()

    def reserve(self, duration: float) -> tuple[list[Reservation], list[str]]:
        """Leave the deferred boards to people, for `duration` seconds; return those, and why others cannot be."""
        reserved, failures = [], []
        for held in self._deferral.held:
            try:
                reserved.append(held.reserve(duration))
                self._keeper.forget(held)
            except JumpstarterError as exc:
                failures.append(f"lease {held.name} cannot be held: {exc}")
        self._deferral.end()
        return reserved, failures

    def release_all(self) -> None:
        """Give back every lease of ours at once, without waiting for anything else; for a signal, in a thread."""
        self._is_urgent = True
        threads = [
            threading.Thread(target=held.release, kwargs={"confirm": False}, daemon=True) for held in list(self._held)
        ]
        for thread in threads:
            thread.start()
        for health in list(self._healths.values()):
            health.lose(LeaseLost("the boards went back when a signal came"))
        for thread in threads:
            thread.join()

    def _acquire(self, wanted: Sequence[Wanted], stack: ExitStack) -> list[Held]:
        """Acquire all leases; `stack` gives them back."""
        members = [self._member(each, time.monotonic()) for each in wanted]
        self._events.on_wait(wanted)
        try:
            with self._refusals.heeded(wanted):
                obtain_all(members)
        except BaseException as exc:
            for member in members:
                member.drop()
            if isinstance(exc, LeaseTimeout):
                self._events.on_no_device(" and ".join(map(str, wanted)), exc)
            raise
        finally:
            self._events.on_wait_over()
        leases = [member.held for member in members if member.held is not None]
        for held in leases:
            stack.callback(self._give_back, held, held.wanted.role)
            self._keeper.watch(held, partial(self._on_loss, held))
        for held in leases:
            held.prepare()
        return leases

    def _member(self, wanted: Wanted, since: float) -> Member:
        request = self._request(wanted) if wanted.lease is None else None
        return Member(
            wanted if request is None else _as_requested(wanted, request),
            request,
            open=partial(self._open, since),
            drop=self._drop,
            pick=partial(self._choice.pick, self.client),
        )

    def _drop(self, held: Held) -> None:
        """Give back what no test has seen."""
        held.release()
        self._held.remove(held)  # and not before: an interrupt in between leaves it to `close`
        if held.failure:
            self._events.on_failure(held.failure)

    def _request(self, wanted: Wanted) -> LeaseRequest:
        """Return the request for a lease, as the hooks want it."""
        if wanted.selector is None and wanted.exporter is None:
            raise ConfigError(
                f"nothing says which exporter {wanted.role!r} needs; give --jmp-selector, --jmp-exporter or "
                "--jmp-lease (ini: jmp_selector, …), or device_fixture(selector=…)"
            )
        request = LeaseRequest(
            selector=wanted.selector,
            exporter=wanted.exporter,
            duration=min(self._terms.ttl, self._terms.max_hold or self._terms.ttl),
            tags=lease_tags(self._origin, run=self._ids.run, worker=self._ids.worker),
            context=lease_context(self._origin),
        )
        self._events.on_request(request, wanted.role)
        return request

    @cached_property
    def _origin(self) -> Origin:
        return Origin.of(os.environ, Path.cwd())

    def _open(self, since: float, wanted: Wanted, request: LeaseRequest | None) -> Held:
        """Return a lease that is still to be requested, or that somebody else made."""
        from pytest_jumpstarter.leasing.adopted import Adopted
        from pytest_jumpstarter.leasing.hold import Hold

        ways: dict[str, Any] = {
            "say": self._events.say,
            "listen": self._listen_to_hook,
            "on_pending": self._warm_up,
            "since": since,
        }
        if request is None:
            held: Held = Adopted(self.client, wanted, **ways)
        else:
            held = Hold(self.client, wanted, request, terms=self._terms, names=self._ids.next, **ways)
        self._held.append(held)  # before the request leaves
        return held

    def _check(self, held: Held, wanted: Wanted) -> None:
        """Refuse an adopted board that is not what the fixture asks for; the lab controller checked the others."""
        assert held.exporter is not None
        if not held.is_ours:
            check_identity(wanted, held.exporter.name, held.exporter.labels, f"lease {held.name}")

    def _connect(self, held: Held, health: Health, role: str, stack: ExitStack) -> Device:
        assert held.exporter is not None
        if self._warming is not None:
            self._warming.join()
        connection = ExporterConnection(self._portal, self._policy)
        stack.callback(connection.close)
        tunnel = self._tunnel(held)
        drivers = connection.open_tunnel(tunnel, exporter=f"exporter {held.exporter.name}")
        log = self._follow_log(held, connection)
        stack.callback(log.stop)
        device = Device(
            role=role,
            exporter=ExporterIdentity(name=held.exporter.name, labels=held.exporter.labels),
            lease=held.lease,
            drivers=drivers,
            portal=connection.portal,
            log=log,
        )
        stack.callback(self._put_away, held, device)
        stack.callback(health.retire)
        health.attach(device, connection, tunnel)
        return device

    def _put_away(self, held: Held, device: Device) -> None:
        if held.is_reserved:  # as the test left it, for people to see
            device.release(f"lease {held.name} is held after a failure")
        else:
            put_away(device, self._events, f"lease {held.name} was given back")

    def _tunnel(self, held: Held) -> Tunnel:
        from pytest_jumpstarter.client.v1 import channel_options
        from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel

        router = RouterChannels(
            self.client.tls.credentials, lambda endpoint: channel_options(endpoint, grpc_options=self._grpc_options)
        )
        return Tunnel(held.dial, router)

    def _listen_to_hook(self, held: Held) -> ExporterLog:
        log = ExporterLog(self._portal, held.wanted.role)
        log.start_at_hook(self._tunnel(held))
        return log

    def _follow_log(self, held: Held, connection: ExporterConnection) -> ExporterLog:
        """Read the exporter's log over the connection, or on where it is read already."""
        log = held.log or ExporterLog(self._portal, held.wanted.role)
        if connection.channel is not None:
            log.start(connection.channel)
        return log

    def _on_loss(self, held: Held, loss: DeviceError) -> None:
        role = held.wanted.role
        health = self._healths.get(role)
        if held in self._held and health is not None and health.is_of(held):
            health.lose(loss)
            self._events.on_loss(role, health.loss or loss)  # by now it knows which board it is about

    def _token_now(self) -> str | None:
        """Return the token that the client config has now."""
        from pytest_jumpstarter.client.v1 import ClientConfig

        if self._config.path is None:
            return None
        try:
            return ClientConfig.load(self._config.path).token
        except ClientConfigError:
            return None  # it is being written

    def _give_back(self, held: Held, role: str) -> None:
        if held not in self._held:
            return
        self._keeper.forget(held)
        held.release()
        self._held.remove(held)  # as in `_drop`
        if held.failure:
            self._events.on_failure(held.failure)
        elif held.is_ours and held.lease is not None and not held.is_reserved:
            self._events.on_released(held.lease, role)
            if not self._is_urgent:
                self._await_after_hook(held)

    def _await_after_hook(self, held: Held) -> None:
        """Wait until the exporter has cleaned up, and pass on if it could not."""
        with suppress(RequestError):  # the lab controller is away: nobody can tell
            if failure := held.after_hook():
                self._events.on_hook_failure(failure)

    def _warm_up(self) -> None:
        """Start what takes long and needs no lease: Jumpstarter's client code and the event loop."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._warm, name="jumpstarter-warm-up", daemon=True)
            self._warming.start()

    def _warm(self) -> None:
        warm_up()
        with suppress(RuntimeError):  # stopped meanwhile: the run was over sooner than the imports
            self._portal.start()


def _as_requested(wanted: Wanted, request: LeaseRequest) -> Wanted:
    """Return what is wanted after the hooks had their say."""
    if (request.selector, request.exporter) == (wanted.selector, wanted.exporter):
        return wanted
    source = f"{wanted.source}, changed by a pytest_jumpstarter_lease_request hook"
    return replace(wanted, selector=request.selector, exporter=request.exporter, source=source)

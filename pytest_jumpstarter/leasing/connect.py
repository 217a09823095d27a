"""
`Connector`: the one place where a device is made, whichever source its exporter comes from.

Connection, driver clients, log, state of health, consoles, hooks; all of it is undone in the opposite order.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, warm_up
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.leasing.call_watch import CallWatch
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.tunnel import Tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePolicy:
    """
    What holds for all consoles of a run, and for all calls of drivers.

    Attributes:
        fatal: What ends a waiting `expect` at once, see `Console.fatal`; None for what usually does.
        is_recorded: Whether consoles are read from the start of a lease, before a test opens one.
        call_timeout: Seconds for one driver call; None for as long as it takes.
    """

    fatal: tuple[str, ...] | None = None
    is_recorded: bool = False
    call_timeout: float | None = None


class Access(ABC):
    """
    An exporter that we may connect to, by a lease or because somebody else gave it to us.

    Attributes:
        lease: The lease; None where we have none.
        tunnel: The tunnel that `open` opened; None if it does without.
        log: What the exporter says, if that is read already.
        reads_log: Whether what the exporter says is ours to read.
        is_reserved: Whether the device is left to people, as the test left it.
        ttl: Seconds without any answer after which an exporter that a call waits for is given up.
    """

    lease: Lease | None = None
    tunnel: Tunnel | None = None
    log: ExporterLog | None = None
    reads_log: bool = True
    is_reserved: bool = False
    ttl: float = 120.0

    @property
    @abstractmethod
    def identity(self) -> ExporterIdentity:
        """Which exporter it is."""

    @property
    @abstractmethod
    def ending(self) -> str:
        """Words for why a device can no longer be used."""

    @abstractmethod
    def open(self, connection: ExporterConnection) -> Drivers:
        """
        Open `connection`, and return the driver clients.

        Raises:
            DeviceUnreachable, ConfigError: See `ExporterConnection`.
        """


class Connector:
    """
    Connects devices, all in one event loop.

    Args:
        policy: Which driver clients may be imported.
        consoles: What holds for all consoles.
        events: Told of each device that is ready, and of each that is put away.
        healths: The state of each role's device; whoever connects one has put it there.
    """

    def __init__(
        self, *, policy: DriverPolicy, consoles: ConsolePolicy, events: Events, healths: Mapping[str, Health]
    ) -> None:
        self._policy = policy
        self._consoles = consoles
        self._events = events
        self._healths = healths
        self._portal = Portal()
        self._warming: threading.Thread | None = None

    def warm_up(self) -> None:
        """Start what takes long and needs no exporter: Jumpstarter's client code and the event loop."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._warm, name="jumpstarter-warm-up", daemon=True)
            self._warming.start()

    def listen_to_hook(self, role: str, tunnel: Tunnel) -> ExporterLog:
        """Read what an exporter says while its beforeLease hook runs, over a tunnel for that alone."""
        log = ExporterLog(self._portal, role)
        log.start_at_hook(tunnel)
        return log

    def connect(self, role: str, access: Access, stack: ExitStack) -> Device:
        """
        Return the connected device of a role, once the hooks have prepared it; `stack` puts it away.

        Raises:
            DeviceError, ConfigError: See `Access.open`, `Health.attach`.
        """
        if self._warming is not None:
            self._warming.join()
        connection = ExporterConnection(self._portal, self._policy, call_timeout=self._consoles.call_timeout)
        stack.callback(connection.close)
        drivers = access.open(connection)
        log = self._follow_log(role, access, connection, stack)
        device = Device(
            role=role,
            exporter=access.identity,
            lease=access.lease,
            drivers=drivers,
            portal=connection.portal,
            log=log,
            fatal=self._consoles.fatal,
            calls=connection.calls,
        )
        stack.callback(self._put_away, device, access)
        health = self._healths[role]
        stack.callback(health.retire)
        health.attach(device, connection, access.tunnel)
        if access.tunnel is not None:
            watch = CallWatch(role, health, connection, access.tunnel, ttl=access.ttl, events=self._events)
            stack.callback(watch.stop)
            watch.start()
        if self._consoles.is_recorded:
            device.record()
        self._events.on_ready(device)
        return device

    def close(self) -> None:
        """End the event loop."""
        self._portal.stop()

    def _follow_log(
        self, role: str, access: Access, connection: ExporterConnection, stack: ExitStack
    ) -> ExporterLog | None:
        """Read what the exporter says over the connection, or on where it is read already."""
        if not access.reads_log or connection.channel is None:
            return None
        log = access.log or ExporterLog(self._portal, role)
        log.start(connection.channel)
        stack.callback(log.stop)
        return log

    def _put_away(self, device: Device, access: Access) -> None:
        """Show the device to the hooks once more, unless it is left to people as it is; then close it."""
        try:
            if not access.is_reserved:
                self._events.on_release(device)
        finally:
            device.release(f"{access.ending} at {time.strftime('%H:%M:%S')}")

    def _warm(self) -> None:
        warm_up()
        with suppress(RuntimeError):  # stopped meanwhile: the run was over sooner than the imports
            self._portal.start()


@contextmanager
def only_in_this_process(stack: ExitStack) -> Iterator[None]:
    """
    Empty `stack` on the way out of a forked child: lease, connection and hooks are its parent's.

    A child that leaves a test by `sys.exit` runs through every fixture's teardown.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            stack.pop_all()

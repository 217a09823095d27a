"""
`Connector`: creates every device, from whichever source its exporter comes.

It opens the connection, driver clients, log, health and consoles and calls the hooks; it closes them in reverse order.
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
    Settings of all consoles and of all driver calls of a run.

    Attributes:
        fatal: The patterns that end a waiting `expect` at once, see `Console.fatal`; None for the default patterns.
        is_recorded: Whether consoles are read from the start of a lease, before a test opens one.
        call_timeout: Seconds for one driver call; None for as long as it takes.
    """

    fatal: tuple[str, ...] | None = None
    is_recorded: bool = False
    call_timeout: float | None = None


class Access(ABC):
    """
    Base class of exporters that this process can connect to, with or without a lease.

    Attributes:
        lease: The lease; None if there is none.
        tunnel: The tunnel that `open` opened; None if it needs none.
        log: The exporter's log, if it is already being read.
        reads_log: Whether this process reads the exporter's log.
        is_reserved: Whether the device is kept for people, in the state in which the test left it.
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
        """The name and labels of the exporter."""

    @property
    @abstractmethod
    def end_reason(self) -> str:
        """Why the device can no longer be used, for messages."""

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
        consoles: Settings of all consoles.
        events: Notified of each device that is ready, and of each that is about to be released.
        healths: The health of each role's device; the caller of `connect` has added it.
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
        """Import Jumpstarter's client code and start the event loop in a thread: both need time but no exporter."""
        if self._warming is None:
            warming = threading.Thread(target=self._warm, name="jumpstarter-warm-up", daemon=True)
            with suppress(RuntimeError):  # no more threads: `connect` raises the error if it needs one
                warming.start()
                self._warming = warming

    def listen_to_hook(self, role: str, tunnel: Tunnel) -> ExporterLog:
        """Read the exporter's log while its beforeLease hook is running, over a separate tunnel."""
        log = ExporterLog(self._portal, role)
        log.start_at_hook(tunnel)
        return log

    def connect(self, role: str, access: Access, stack: ExitStack) -> Device:
        """
        Connect the device of a role, call the hooks, and return the device; `stack` releases it.

        Raises:
            DeviceError, ConfigError: See `Access.open`, `Health.attach`.
        """
        health = self._healths[role]
        stack.callback(health.retire)  # also if the connection fails: releasing its lease is no loss
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
        stack.callback(self._release, device, access)
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
        """Read the exporter's log over the connection; if it is already being read, continue."""
        if not access.reads_log or connection.channel is None:
            return None
        log = access.log or ExporterLog(self._portal, role)
        log.start(connection.channel)
        stack.callback(log.stop)
        return log

    def _release(self, device: Device, access: Access) -> None:
        """Call the hooks for the device, unless it is kept for people as it is; then close it."""
        try:
            if not access.is_reserved:
                self._events.on_release(device)
        finally:
            device.release(f"{access.end_reason} at {time.strftime('%H:%M:%S')}")

    def _warm(self) -> None:
        warm_up()
        with suppress(RuntimeError):  # the portal was stopped: the run ended before the imports did
            self._portal.start()


@contextmanager
def only_in_this_process(stack: ExitStack) -> Iterator[None]:
    """
    In a forked child, empty `stack` at the end: lease, connection and hooks belong to the parent process.

    A child that leaves a test by `sys.exit` runs the teardown of every fixture.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            stack.pop_all()

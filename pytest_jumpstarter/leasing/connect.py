"""
`Connector`: creates every device, from whichever source its exporter comes.

It opens the connection, driver clients, log, health and consoles and calls the hooks; it closes them in reverse order.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.connected_device import ConnectedDevice
from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, warm_up
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.call_watch import CallWatch
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.lease_request import DEFAULT_TTL

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.console_defaults import ConsoleDefaults
    from pytest_jumpstarter.device.tunnel import Tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """
    Settings of all devices of a run: of their consoles, driver calls and flashes.

    Attributes:
        consoles: The settings of each console at first; None for the built-in ones.
        records_consoles: Whether consoles are read from the start of a lease, before a test opens one.
        show_line: Called with a role and each line of its consoles, from any thread; None if nobody shows them.
        call_timeout: Seconds for one driver call; None for as long as it takes.
        flashes_always: Whether `Device.flash` flashes an image that is there already.
    """

    consoles: ConsoleDefaults | None = None
    records_consoles: bool = False
    show_line: Callable[[str, str], None] | None = None
    call_timeout: float | None = None
    flashes_always: bool = False


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
    ttl: float = DEFAULT_TTL

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

    @abstractmethod
    def open_to_others(self, portal: BlockingPortal, stack: ExitStack) -> Mapping[str, str]:
        """
        Return `JUMPSTARTER_HOST`, at which other processes reach the exporter, and the variables for its TLS.

        `stack` closes what is opened for that in the loop of `portal`.
        """

    def variables(self, portal: BlockingPortal, policy: DriverPolicy, stack: ExitStack) -> Mapping[str, str]:
        """
        Return the variables that `jmp shell` would set for this exporter.

        Source: jumpstarter.common.utils.launch_shell
        """
        found = {
            **self.open_to_others(portal, stack),
            "JMP_EXPORTER": self.identity.name,
            "JMP_DRIVERS_ALLOW": "UNSAFE" if policy.unsafe else ",".join(policy.allow),
            "_JMP_SUPPRESS_DRIVER_WARNINGS": "1",  # whoever uses a driver that is missing gets an error
        }
        if self.lease is not None:
            found["JMP_LEASE"] = self.lease.name
        if self.identity.labels is not None:
            found["JMP_EXPORTER_LABELS"] = ",".join(f"{key}={value}" for key, value in self.identity.labels.items())
        return found

    def await_ready(self, connection: ExporterConnection, log: ExporterLog | None) -> str:  # noqa: ARG002
        """
        Wait until the exporter's beforeLease hook, if it has one, has ended; return its warning, or an empty text.

        Args:
            connection: Is open.
            log: The exporter's log, with the output of the hook; None if somebody else reads it.

        Raises:
            HookFailed, DeviceUnreachable: The hook failed, or has not ended in time.
        """
        return ""


class Connector:
    """
    Connects devices, all in one event loop.

    Args:
        policy: Which driver clients may be imported.
        settings: Settings of all devices.
        events: Notified of each device that is ready, and of each that is about to be released.
        healths: The health of each role's device; the caller of `connect` has added it.
    """

    def __init__(
        self, *, policy: DriverPolicy, settings: DeviceSettings, events: Events, healths: Mapping[str, Health]
    ) -> None:
        self._policy = policy
        self._settings = settings
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

    def connect(self, role: str, access: Access, stack: ExitStack, connections: ExitStack | None = None) -> Device:
        """
        Connect the device of a role, call the hooks, and return the device; `stack` releases it.

        Args:
            role: The role.
            access: The exporter.
            stack: Releases the device and its drivers.
            connections: Ends the reading of the log, and closes the connection; None for `stack`. Of a lease this is
                closed after the lease has ended, because an exporter goes on to send its log until its afterLease hook
                has ended.

        Raises:
            DeviceError, ConfigError: See `Access.open`, `Health.attach`.
        """
        health = self._healths[role]
        stack.callback(health.retire)  # also if the connection fails: releasing its lease is no loss
        if self._warming is not None:
            self._warming.join()
        connection = ExporterConnection(self._portal, self._policy, call_timeout=self._settings.call_timeout)
        connections = stack if connections is None else connections
        connections.callback(connection.close)
        stack.callback(connection.release_drivers)
        with _named(access):
            drivers = access.open(connection)
        if drivers.motd:
            self._events.on_motd(drivers.motd)
        log = self._follow_log(role, access, connection, connections)
        if warning := access.await_ready(connection, log):
            lease = access.lease.name if access.lease is not None else ""
            self._events.on_hook_failure(role, lease, f"{warning}{log.last_words() if log is not None else ''}")
        device = self._new_device(role, access, connection, drivers, log)
        stack.callback(self._release, device, access)
        stack.callback(health.retire)
        with _named(access):
            health.attach(device, connection, access.tunnel, ttl=access.ttl)
        watch = CallWatch(role, health, connection, events=self._events)
        stack.callback(watch.stop)
        watch.start()
        if self._settings.records_consoles:
            connected(device).record()
        self._events.on_ready(device)
        return device

    def close(self) -> None:
        """End the event loop."""
        self._portal.stop()

    def _new_device(
        self, role: str, access: Access, connection: ExporterConnection, drivers: Drivers, log: ExporterLog | None
    ) -> Device:
        show_line = self._settings.show_line
        return Device(
            ConnectedDevice(
                role=role,
                exporter=access.identity,
                lease=access.lease,
                drivers=drivers,
                portal=connection.portal,
                log=log,
                consoles=self._settings.consoles,
                show_line=None if show_line is None else partial(show_line, role),
                calls=connection.calls,
                flashes_always=self._settings.flashes_always,
                on_transfer=partial(self._events.on_transfer, role),
                variables=partial(access.variables, connection.portal, self._policy),
            )
        )

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
            connected(device).release(f"{access.end_reason} at {real_time.clock()}")

    def _warm(self) -> None:
        warm_up()
        with suppress(RuntimeError):  # the portal was stopped: the run ended before the imports did
            self._portal.start()


@contextmanager
def _named(access: Access) -> Iterator[None]:
    """Add exporter and lease to a device error that has no names."""
    try:
        yield
    except DeviceError as exc:
        exc.exporter = exc.exporter or access.identity.name
        exc.lease = exc.lease or (access.lease.name if access.lease is not None else "")
        raise


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

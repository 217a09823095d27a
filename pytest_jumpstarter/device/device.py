"""`Device`: the stable handle that a fixture yields."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.device.drivers import Drivers, derives_from
from pytest_jumpstarter.errors import ConfigError, ConsoleNotFound, DeviceError, DeviceReleased

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.shared_port import SharedPort

_CONSOLE_NAMES = ("console", "serial", "uart")
_SERIAL_PORT = "jumpstarter_driver_pyserial.client"
"""The module of Jumpstarter's client for serial ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterIdentity:
    """
    The exporter that serves a device.

    Attributes:
        name: The exporter's name; empty if unknown.
        labels: Its labels; None if unknown (in a shell of Jumpstarter before 0.9, with `--jmp-direct`).
    """

    name: str
    labels: Mapping[str, str] | None = field(default_factory=dict)


class Device:
    """
    A connected device (DUT) of one role.

    The drivers that the exporter serves are attributes: `dut.power.on()` calls the driver named `power`. They are
    Jumpstarter's own driver clients. After the device was released, every use of it raises `DeviceReleased`.

    Attributes:
        role: The name of the fixture that yields this device.
        exporter: The exporter that serves it.
        lease: The lease of the device, as it was when it became ready; None if there is no lease.
        log: The log of the exporter; None if another process reads it, such as a shell.
        fatal: `Console.fatal` of consoles that are opened from now on; None for the default.
    """

    def __init__(
        self,
        *,
        role: str,
        exporter: ExporterIdentity,
        lease: Lease | None,
        drivers: Drivers,
        portal: BlockingPortal,
        log: ExporterLog | None = None,
        fatal: Sequence[str] | None = None,
        calls: dict[int, float] | None = None,
    ) -> None:
        self.role = role
        self.exporter = exporter
        self.lease = lease
        self.log = log
        self.fatal = fatal
        self._client: DriverClient | None = drivers.root
        self._portal = portal
        self._drivers = drivers
        self._calls = {} if calls is None else calls
        self._consoles: dict[str, Console] = {}
        self._ports: dict[object, SharedPort] = {}
        self._released = ""
        self._loss: DeviceError | None = None
        drivers.watch_built(self._share_port)
        for path in drivers.usable(drivers.reported(_SERIAL_PORT)):
            _ = drivers[path]  # built now: its import must not delay reading when the board is switched on

    @property
    def client(self) -> DriverClient:
        """
        The root driver client, of Jumpstarter's own class.

        Raises:
            DeviceReleased: The device was released.
            DeviceError: The device was lost; the error says why and when.
        """
        if self._loss is not None:
            raise self._loss.with_traceback(None)
        if self._client is None:
            raise DeviceReleased(f"device {self.role!r} was released: {self._released}")
        return self._client

    @property
    def drivers(self) -> Drivers:
        """All driver clients by their dotted paths, such as `storage` or `rack.port1.power`; built when looked up."""
        _ = self.client  # raises after the release
        return self._drivers

    def __getattr__(self, name: str) -> Any:  # a driver client, of a class that only the lab knows
        __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
        if name.startswith("_"):
            raise AttributeError(name)
        client = self.client
        if name in client.children:
            return client.children[name]
        try:
            return getattr(client, name)
        except AttributeError:
            text = f"{self} has no driver {name!r}; {self._offer(name)}"
            raise AttributeError(text, name=name, obj=None) from None  # no obj: Python would add a second hint

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(self._client.children if self._client is not None else ())]

    def console(self, path: str | None = None) -> Console:
        """
        Return the console at the dotted `path`; it is opened at the first call and closed with the device.

        If its stream broke or ended since, it is opened again.

        Without a path: the only serial port of the device, or the only driver named console, serial or uart.

        Raises:
            ConsoleNotFound: There is no such driver; or without a path, no console or more than one.
            DeviceUnreachable: The stream cannot be opened. Exporters of 0.9 accept the stream of any driver; if the
                driver has none, the first `expect` raises that the console closed.
            DeviceReleased, DeviceError: As `client`.
        """
        from pytest_jumpstarter.device.console import Console

        found = self._console_path(path)
        port = self._port(found)
        begin = port.since
        if found in self._consoles and not self._consoles[found].is_open:
            self._consoles.pop(found).close()
            begin = port.ended
        if found not in self._consoles:
            self._consoles[found] = Console(
                port, self._portal, begin=begin, name=f"{found} of {self}", fatal=self.fatal, calls=self._calls
            )
        return self._consoles[found]

    def record(self) -> None:
        """Start to record every console before a test opens it; a failure is noted in `SharedPort.failure`."""
        for path in self._console_candidates():
            with suppress(ConfigError):  # its driver client cannot be used
                self._portal.call(self._port(path).record)

    @property
    def serial_ports(self) -> list[SharedPort]:
        """The serial ports that were opened, with their recordings, which outlive the lease."""
        return [port for port in self._ports.values() if port.opened or port.failure]

    def lose(self, loss: DeviceError) -> None:
        """Raise `loss` at every use from now on; if called twice, the first loss is raised."""
        self._loss = self._loss or loss

    def release(self, reason: str) -> None:
        """Close the consoles and drop the driver clients; later uses raise `DeviceReleased` with `reason`."""
        self._released = reason
        self._client = None
        for console in self._consoles.values():
            console.close()
        self._consoles.clear()
        for port in self._ports.values():
            port.close(self._portal)

    def __str__(self) -> str:
        return f"{self.role} ({self.exporter.name})" if self.exporter.name else self.role

    def __repr__(self) -> str:
        state = f"released: {self._released}" if self._client is None else f"drivers: {', '.join(self._drivers)}"
        return f"<Device {self} {state}>"

    def _share_port(self, path: str, driver: DriverClient) -> None:
        """Share a serial port among all who open it, because it has one reader."""
        if derives_from(driver, _SERIAL_PORT):
            self._port(path, driver).share(driver)

    def _port(self, path: str, driver: DriverClient | None = None) -> SharedPort:
        """Return the shared port of the driver at `path`; one driver may be at several paths (`ref:`)."""
        from pytest_jumpstarter.device.shared_port import SharedPort

        places = self._drivers.places
        uuid = places[path].uuid
        if uuid not in self._ports:
            shortest = min((known for known, place in places.items() if place.uuid == uuid), key=len)
            opener = self._drivers[path] if driver is None else driver  # a MissingDriver raises its error
            self._ports[uuid] = SharedPort(opener, shortest)
        return self._ports[uuid]

    def _console_path(self, path: str | None) -> str:
        if path is not None:
            if path not in self.drivers:
                raise ConsoleNotFound(f"{self} has no driver {path!r} to use as a console; {self._offer(path)}")
            return path
        candidates = self._console_candidates()
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise ConsoleNotFound(
                f"{self} has {len(candidates)} consoles ({', '.join(candidates)}); "
                "choose one: dut.console('PATH'), or a `console` fixture of your own in conftest.py"
            )
        raise ConsoleNotFound(f"{self} has no console; {self._offer('console')}")

    def _console_candidates(self) -> list[str]:
        """
        Return the paths of the consoles.

        These are the drivers that report Jumpstarter's class for serial ports; if there are none, those whose class is
        derived from it; if there are none, those that are named like a console.
        """
        drivers = self.drivers
        named = (path for path in drivers if path.rpartition(".")[2] in _CONSOLE_NAMES)
        derived = (path for path, driver in drivers.items() if derives_from(driver, _SERIAL_PORT))
        return drivers.usable(drivers.reported(_SERIAL_PORT) or list(derived) or named)

    def _offer(self, wanted: str) -> str:
        near = difflib.get_close_matches(wanted, self._drivers, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"it has {', '.join(self._drivers) or 'none'}{hint}"

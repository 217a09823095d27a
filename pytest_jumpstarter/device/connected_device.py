"""`ConnectedDevice`: what is behind a `Device`, whose own attributes are drivers."""

from __future__ import annotations

import difflib
import os
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_jumpstarter.device.device_state import DeviceState
from pytest_jumpstarter.device.drivers import Drivers, children_of, derives_from
from pytest_jumpstarter.device.flashing import Flashing
from pytest_jumpstarter.device.portal import require_parent
from pytest_jumpstarter.device.serial_ports import SERIAL_PORT, SerialPorts
from pytest_jumpstarter.device.transfers import Transfer, Transfers
from pytest_jumpstarter.errors import ConfigError, ConsoleNotFound, DeviceError, DeviceReleased

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.board_results import BoardResult
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.device.console_defaults import ConsoleDefaults
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.shared_port import SharedPort

_CONSOLE_NAMES = ("console", "serial", "uart")


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


SHELL_VARIABLES = (
    "JUMPSTARTER_HOST",
    "JMP_DRIVERS_ALLOW",
    "JMP_EXPORTER",
    "JMP_EXPORTER_LABELS",
    "JMP_LEASE",
    "JMP_GRPC_INSECURE",
    "JUMPSTARTER_GRPC_INSECURE",
)
"""The variables by which `jmp shell` says how a device is reached."""


class ConnectedDevice:
    """
    The connected device behind a `Device`: what this plugin uses of it.

    Args:
        consoles: The settings of each console at first.
        show_line: Called with each line of each console, from any thread.
        flashes_always: Whether an image is flashed although it is there.
        on_transfer: Called with each transfer when it begins.
        variables: Returns the variables that `jmp shell` would set; a stack closes what is opened for them.

    Attributes:
        role: The name of the fixture that yields the device.
        exporter: The exporter that serves it.
        lease: The lease of the device, as it was when it became ready; None if there is no lease.
        log: The log of the exporter; None if another process reads it, such as a shell.
        on_change: Called, with what happens, before anything is flashed, by `Device.flash` or otherwise.
        flashing: Flashes images.
        board_state: Which board state of the suite the device is in.
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
        consoles: ConsoleDefaults | None = None,
        show_line: Callable[[str], None] | None = None,
        calls: dict[int, float] | None = None,
        flashes_always: bool = False,
        on_transfer: Callable[[Transfer], None] = lambda _: None,
        variables: Callable[[ExitStack], Mapping[str, str]],
    ) -> None:
        self.role = role
        self.exporter = exporter
        self.lease = lease
        self.log = log
        self._defaults = consoles
        self._process = os.getpid()
        self._client: DriverClient | None = drivers.root
        self._portal = portal
        self._drivers = drivers
        self._calls = {} if calls is None else calls
        self._consoles: dict[str, Console] = {}
        self._released = ""
        self._loss: DeviceError | None = None
        self._new_variables = variables
        self._variables: Mapping[str, str] | None = None
        self._for_other_processes = ExitStack()
        self._ports = SerialPorts(drivers, portal, is_busy=lambda: bool(self._calls), role=role, show_line=show_line)
        self.on_change: list[Callable[[str], None]] = []
        transfers = Transfers(on_transfer)
        self.flashing = Flashing(drivers, transfers, self._ports, is_always=flashes_always, on_change=self.on_change)
        drivers.watch_built(transfers.watch)
        if log is not None:
            log.share(drivers.root)
            drivers.watch_built(lambda _, client: log.share(client))
        hidden = f"{role}.drivers['state']" if "state" in drivers else ""
        self.board_state = DeviceState(str(self), hidden)

    @property
    def client(self) -> DriverClient:
        """The root driver client; see `Device.client`."""
        if self._loss is not None:
            raise self._loss.with_traceback(None)
        require_parent(self._process)
        if self._client is None:
            raise DeviceReleased(f"device {self.role!r} was released: {self._released}")
        return self._client

    @property
    def drivers(self) -> Drivers:
        """All driver clients by their dotted paths; see `Device.drivers`."""
        _ = self.client  # raises after the release
        return self._drivers

    @property
    def driver_paths(self) -> Iterable[str]:
        """The dotted paths of all drivers; also of a device that was released."""
        return self._drivers

    @property
    def driver_names(self) -> Iterable[str]:
        """The names of the drivers that are attributes of the device; none after the release."""
        return children_of(self._client) if self._client is not None else ()

    @property
    def summary(self) -> str:
        """Its drivers, or why it was released."""
        return f"drivers: {', '.join(self._drivers)}" if self._client is not None else f"released: {self._released}"

    def console(self, path: str | None = None) -> Console:
        """Return the console at the dotted `path`; see `Device.console`."""
        from pytest_jumpstarter.device.console import Console

        found = self._console_path(path)
        port = self._ports.at(found)
        begin = port.since
        if found in self._consoles and not self._consoles[found].is_open:
            self._consoles.pop(found).close()
            begin = port.ended
        if found not in self._consoles:
            self._consoles[found] = Console(
                port, self._portal, begin=begin, name=f"{found} of {self}", defaults=self._defaults, calls=self._calls
            )
        return self._consoles[found]

    def port_free(self, paths: Sequence[str]) -> AbstractContextManager[None]:
        """Return a context manager in which serial ports are free for others; see `Device.port_free`."""
        found = [self._console_path(path) for path in paths] or self._console_candidates()
        return self._ports.free(found, "given to others by port_free")

    def env(self) -> dict[str, str]:
        """Return an environment in which other processes reach the device; see `Device.env`."""
        _ = self.client  # raises after the release
        if self._variables is None:
            self._variables = self._new_variables(self._for_other_processes)
        environ = {name: value for name, value in os.environ.items() if name not in SHELL_VARIABLES}
        environ.update(self._variables)
        scripts, folders = sysconfig.get_path("scripts"), environ.get("PATH", os.defpath)
        if scripts not in folders.split(os.pathsep):  # where `j` is, if pytest runs in a venv that is not activated
            environ["PATH"] = f"{folders}{os.pathsep}{scripts}"
        return environ

    def record(self) -> None:
        """Start to record every console before a test opens it; a failure is noted in `SharedPort.failure`."""
        for path in self._console_candidates():
            with suppress(ConfigError):  # its driver client cannot be used
                self._portal.call(self._ports.at(path).record)

    @property
    def serial_ports(self) -> list[SharedPort]:
        """The serial ports that were opened, with their recordings, which outlive the lease."""
        return self._ports.used

    def take_results(self) -> list[BoardResult]:
        """Return the results of tests on the board that consoles have read since the last call."""
        taken: list[BoardResult] = []
        for console in self._consoles.values():
            taken += console.results
            console.results = []
        return taken

    def lose(self, loss: DeviceError) -> None:
        """Raise `loss` at every use from now on; if called twice, the first loss is raised."""
        self._loss = self._loss or loss

    def release(self, reason: str) -> None:
        """Close the consoles and drop the driver clients; later uses raise `DeviceReleased` with `reason`."""
        self._released = reason
        self._client = None
        self._for_other_processes.close()
        self._ports.close()  # first, so that a console does not wait until the exporter has closed its port
        for console in self._consoles.values():
            console.close()
        self._consoles.clear()

    def __str__(self) -> str:
        return f"{self.role} ({self.exporter.name})" if self.exporter.name else self.role

    def _console_path(self, path: str | None) -> str:
        if path is not None:
            if path not in self.drivers:
                raise ConsoleNotFound(f"{self} has no driver {path!r} to use as a console; {self.offer(path)}")
            return path
        candidates = self._console_candidates()
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise ConsoleNotFound(
                f"{self} has {len(candidates)} consoles ({', '.join(candidates)}); "
                "choose one: dut.console('PATH'), or a `console` fixture of your own in conftest.py"
            )
        raise ConsoleNotFound(f"{self} has no console; {self.offer('console')}")

    def _console_candidates(self) -> list[str]:
        """
        Return the paths of the consoles.

        These are the drivers that report Jumpstarter's class for serial ports; if there are none, those whose class is
        derived from it; if there are none, those that are named like a console.
        """
        drivers = self.drivers
        named = (path for path in drivers if path.rpartition(".")[2] in _CONSOLE_NAMES)
        derived = (path for path, driver in drivers.items() if derives_from(driver, SERIAL_PORT))
        return drivers.usable(drivers.reported(SERIAL_PORT) or list(derived) or named)

    def offer(self, wanted: str) -> str:
        """Return words for the drivers that there are, and which of them may be meant."""
        near = difflib.get_close_matches(wanted, self._drivers, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"it has {', '.join(self._drivers) or 'none'}{hint}"

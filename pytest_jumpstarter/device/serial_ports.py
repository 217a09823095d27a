"""`SerialPorts`: the serial ports of a device, each shared among all who open it, because it has one reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytest_jumpstarter.device.drivers import Drivers, derives_from

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.device.line_follower import LineFollower
    from pytest_jumpstarter.device.shared_port import SharedPort

SERIAL_PORT = "jumpstarter_driver_pyserial.client"
"""The module of Jumpstarter's client for serial ports."""


class SerialPorts:
    """
    The shared ports of a device.

    Args:
        portal: The portal to the loop in which they are read.
        is_busy: Returns whether a driver call is running.
        role: The role of the device.
        show_line: Called with each line of each port, from any thread; None if nobody shows them.
    """

    def __init__(
        self,
        drivers: Drivers,
        portal: BlockingPortal,
        is_busy: Callable[[], bool],
        *,
        role: str,
        show_line: Callable[[str], None] | None = None,
    ) -> None:
        self._role = role
        self._show_line = show_line
        self._followers: list[LineFollower] = []
        self._drivers = drivers
        self._portal = portal
        self._is_busy = is_busy
        self._ports: dict[object, SharedPort] = {}
        drivers.watch_built(self._share)
        for path in drivers.usable(drivers.reported(SERIAL_PORT)):
            _ = drivers[path]  # built now: its import must not delay reading when the board is switched on

    @property
    def used(self) -> list[SharedPort]:
        """The ports that were opened, or could not be opened for their recording."""
        return [port for port in self._ports.values() if port.opened or port.failure]

    def at(self, path: str, driver: DriverClient | None = None) -> SharedPort:
        """Return the shared port of the driver at `path`; one driver may be at several paths (`ref:`)."""
        from pytest_jumpstarter.device.line_follower import LineFollower
        from pytest_jumpstarter.device.shared_port import SharedPort

        places = self._drivers.places
        uuid = places[path].uuid
        opener = self._drivers[path] if driver is None else driver  # building it may add its port
        if uuid not in self._ports:  # a MissingDriver raises its error here
            shortest = min((known for known, place in places.items() if place.uuid == uuid), key=len)
            self._ports[uuid] = port = SharedPort(opener, shortest, self._is_busy)
            self._followers.append(LineFollower(port, self._role, self._show_line))
        return self._ports[uuid]

    def below(self, path: str) -> list[str]:
        """Return the paths of the serial ports that a driver names: those among the drivers below it."""
        places = self._drivers.places
        above = tuple(f"{each}." for each, place in places.items() if place.uuid == places[path].uuid)
        return [each for each, place in places.items() if each.startswith(above) and place.uuid in self._ports]

    @contextmanager
    def free(self, paths: list[str], reason: str) -> Iterator[None]:
        """Close the ports at `paths` meanwhile; at the end open those again that were in use."""
        lent = {port.path: port for port in map(self.at, paths)}
        with ExitStack() as stack:
            for port in lent.values():
                stack.enter_context(self._lent(port, reason))
            yield

    @contextmanager
    def _lent(self, port: SharedPort, reason: str) -> Iterator[None]:
        has_ended = False
        try:
            self._portal.call(port.lend, reason)
            yield
            has_ended = True
        finally:
            self._portal.call(partial(port.take_back, opens=has_ended))

    def close(self) -> None:
        """Close all ports; their recordings stay readable."""
        for port in self._ports.values():
            port.close(self._portal)
        for follower in self._followers:
            follower.close()

    def _share(self, path: str, driver: DriverClient) -> None:
        if derives_from(driver, SERIAL_PORT):
            self.at(path, driver).share(driver)

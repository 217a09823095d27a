"""`Device`: the stable handle that a fixture yields."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pytest_jumpstarter.device.connected_device import ConnectedDevice
from pytest_jumpstarter.device.drivers import AnyClient, Drivers, children_of

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.connected_device import ExporterIdentity
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.device.device_state import DeviceState
    from pytest_jumpstarter.device.flashing import Images

_F = TypeVar("_F", bound=Callable[..., object])


def _device_method(function: _F) -> _F:
    """Return a method of `Device` whose name a driver may have, too; its attributes say where the driver is."""
    return cast("_F", _DeviceMethod(function))


class _DeviceMethod:
    """The descriptor that `_device_method` makes."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __get__(self, device: Device | None, owner: type[Device]) -> Callable[..., object]:
        return self._function if device is None else _BoundMethod(self._function, device)


class _BoundMethod(partial[object]):
    """A method of one device."""

    def __getattr__(self, name: str) -> AnyClient:
        __tracebackhide__ = True  # pytest shows the line of the test
        if name.startswith("_"):
            raise AttributeError(name)
        device, method = self.args[0], self.func.__name__
        text = f"{device.role}.{method} is a method of the device; call it: {device.role}.{method}()"
        if method in connected(device).driver_paths:
            text += f"; the driver {method!r} is {device.role}.drivers[{method!r}]"
        raise AttributeError(text, name=name, obj=None)  # no obj: Python would add a hint of its own


class Device:
    """
    A connected device (DUT) of one role.

    The drivers that the exporter serves are attributes: `dut.power.on()` calls the driver named `power`. They are
    Jumpstarter's own driver clients. A driver with the name of a member below is in `drivers`. After the device was
    released, every use of it raises `DeviceReleased`.
    """

    def __init__(self, connected: ConnectedDevice) -> None:
        self._connected = connected

    @property
    def role(self) -> str:
        """The name of the fixture that yields this device."""
        return self._connected.role

    @property
    def exporter(self) -> ExporterIdentity:
        """The exporter that serves it."""
        return self._connected.exporter

    @property
    def lease(self) -> Lease | None:
        """The lease of the device, as it was when it became ready; None if there is no lease."""
        return self._connected.lease

    @property
    def client(self) -> DriverClient:
        """
        The root driver client, of Jumpstarter's own class.

        Raises:
            DeviceReleased: The device was released.
            DeviceError: The device was lost; the error says why and when.
        """
        return self._connected.client

    @property
    def drivers(self) -> Drivers:
        """All driver clients by their dotted paths, such as `storage` or `rack.port1.power`; built when looked up."""
        return self._connected.drivers

    @property
    def state(self) -> DeviceState:
        """Which board state of the suite (`board_state`) the device is in: `.current`, `.spoil`, `.keep`, `.reach`."""
        return self._connected.board_state

    @property  # type: ignore[misc]  # that of `object` can be set
    def __class__(self) -> type[Any]:
        """What `isinstance` finds beside `type(dut)`: the class of the root driver client, whose attributes it has."""
        with suppress(Exception):  # it was released, or lost
            return type(self.client)
        return type(self)

    def __getattr__(self, name: str) -> AnyClient:
        __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
        if name.startswith("_"):
            raise AttributeError(name)
        client = self.client
        children = children_of(client)
        if name in children:
            return children[name]
        try:
            return getattr(client, name)
        except AttributeError:
            text = f"{self} has no driver {name!r}; {self._connected.offer(name)}"
            raise AttributeError(text, name=name, obj=None) from None  # no obj: Python would add a second hint

    def __dir__(self) -> list[str]:
        names = (*dir(type(self)), *vars(self))  # `object` would ask `__class__`
        own = (name for name in names if not name.startswith("_") or name.startswith("__"))
        return [*own, *self._connected.driver_names]

    @_device_method
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
        return self._connected.console(path)

    @_device_method
    def env(self) -> dict[str, str]:
        """
        Return an environment in which `j`, and all else that runs in a `jmp shell`, reaches the device.

        It is that of this process, with `JUMPSTARTER_HOST` and the other variables that `jmp shell` sets. With a lease,
        `JUMPSTARTER_HOST` is a socket of this process, which exists until the device is released.

        ::

            subprocess.run(["j", "power", "on"], env=dut.env(), check=True)

        Raises:
            DeviceReleased, DeviceError: As `client`.
        """
        return self._connected.env()

    @_device_method
    def flash(
        self,
        image: Images,
        *,
        driver: str | None = None,
        target: str | None = None,
        verify: Callable[[], bool] | None = None,
        force: bool = False,
        digest: str | None = None,
        **options: object,
    ) -> bool:
        """
        Flash an image, unless this lease has flashed it already; return whether it was flashed.

        Serial ports that are below the flasher in the exporter's configuration are free for it meanwhile.

        Args:
            image: What the driver takes: a path, a URL, or a mapping of targets to these.
            driver: The dotted path of the driver. Without it: the only one that can flash.
            target: The partition, as the driver names it.
            verify: Called if this lease has flashed nothing there yet. If it returns true, the image is there: nothing
                is flashed. An AssertionError, or an `expect` that fails, counts as false.
            force: Flash in any case.
            digest: What identifies the image, in place of the SHA-256 of its content, or of the text of a URL.
            options: Passed on to the driver's `flash`, such as `compression`.

        Raises:
            FlasherNotFound: No driver can flash; or without `driver`, more than one.
            OSError: The image cannot be read.
            DeviceReleased, DeviceError: As `client`. The driver may raise errors of its own.
        """
        _ = self.client
        return self._connected.flashing.flash(
            image, driver=driver, target=target, verify=verify, force=force, digest=digest, options=options
        )

    @_device_method
    def port_free(self, *paths: str) -> AbstractContextManager[None]:
        """
        Return a context manager in which serial ports are closed, so that others on the exporter can open them.

        Afterwards those that were in use are open again, and recorded. Consoles raise a RuntimeError meanwhile.

        Args:
            paths: The dotted paths of the ports. Without any: all consoles of the device.

        Raises:
            ConsoleNotFound: There is no such driver.
            DeviceReleased, DeviceError: As `client`.
        """
        return self._connected.port_free(paths)

    def __str__(self) -> str:
        return str(self._connected)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self} {self._connected.summary}>"


def connected(device: Device) -> ConnectedDevice:
    """Return what is behind a device; its attributes would hide drivers of the same name."""
    return device._connected

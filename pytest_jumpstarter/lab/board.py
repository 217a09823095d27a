"""
The virtual board: a Jumpstarter driver with power, a serial console and storage.

Its children are used with Jumpstarter's own client classes. The board boots the flashed image; while power is off, the
console prints nothing. Use it in a lab file as::

    export:
      board:
        type: pytest_jumpstarter.lab.board.VirtualBoard
"""

# Jumpstarter's driver API has no types, and its base class has abstract RPCs that a driver need not implement.
# mypy: disable-error-code="untyped-decorator,no-untyped-call,abstract"

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio import EndOfStream
from anyio.abc import ObjectStream
from jumpstarter.driver import Driver, export, exportstream
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_opendal.driver import FlasherInterface
from jumpstarter_driver_power.common import PowerReading
from jumpstarter_driver_power.driver import PowerInterface

from pytest_jumpstarter.lab.machine import Machine, Storage

_CHUNK_BYTES = 64 * 1024

# Exporters create their drivers again for each lease; the flash of a board keeps its content, as on a real board.
_storages: dict[str, Storage] = {}


@dataclass(kw_only=True)
class VirtualBoard(Composite):
    """
    A board with the children `power`, `console` and `storage`; its power is off when a lease begins.

    Args:
        serial: The serial number. In one exporter, boards with the same number share one flash.
        version: The version of the factory image, which boots until another is flashed; empty for an empty flash.
        boot_time: Seconds from power on to the login prompt.
    """

    serial: str = "0001"
    version: str = "1.0.0"
    boot_time: float = 0.05
    _machine: Machine = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boot_time < 0:
            raise ValueError(f"boot_time is {self.boot_time}; it must not be negative")
        if self.serial not in _storages:
            image = f"{self.version}\n".encode() if self.version else b""
            _storages[self.serial] = Storage(image)
        self._machine = Machine(_storages[self.serial], serial=self.serial, boot_time=self.boot_time)
        self.children = {
            "power": BoardPower(machine=self._machine),
            "console": BoardConsole(machine=self._machine),
            "storage": BoardStorage(machine=self._machine),
        }

    def close(self) -> None:
        """Switch the board off at the end of a lease."""
        super().close()
        self._machine.off()


@dataclass(kw_only=True)
class BoardPower(PowerInterface, Driver):
    """The board's power supply: 5 V, 0.4 A."""

    machine: Any

    @export
    async def on(self) -> None:
        """Switch the board on; it boots."""
        self.logger.info("power on")
        self.machine.on()

    @export
    async def off(self) -> None:
        """Switch the board off; the console prints nothing more."""
        self.logger.info("power off")
        self.machine.off()

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield one measurement."""
        yield PowerReading(voltage=5.0, current=0.4) if self.machine.is_on else PowerReading(voltage=0.0, current=0.0)


@dataclass(kw_only=True)
class BoardConsole(Driver):
    """The board's serial port; a new stream replaces the one that is open."""

    machine: Any

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_ConsoleStream, None]:
        """Open the serial port."""
        async with _ConsoleStream(self.machine) as stream:
            yield stream


class _ConsoleStream(ObjectStream[bytes]):
    """One open serial port."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._reader = machine.line.open()

    async def receive(self) -> bytes:
        if data := await self._machine.line.read(self._reader):
            return data
        raise EndOfStream

    async def send(self, item: bytes) -> None:
        self._machine.type(item)

    async def send_eof(self) -> None:
        """Do nothing: a serial port cannot be closed in one direction."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(kw_only=True)
class BoardStorage(FlasherInterface, Driver):
    """The board's flash."""

    machine: Any

    @export
    async def flash(self, source: str, target: str | None = None) -> None:
        """Write an image; its first line is the version that the boot log prints."""
        _refuse_partition(target)
        storage: Storage = self.machine.storage
        storage.erase()
        async with self.resource(source) as stream:
            async for chunk in stream:
                storage.append(chunk)
        self.logger.info("flashed %d bytes", storage.size)

    @export
    async def dump(self, target: str, partition: str | None = None) -> None:
        """Read the image back."""
        _refuse_partition(partition)
        storage: Storage = self.machine.storage
        position = 0
        async with self.resource(target) as stream:
            while chunk := storage.read(position, _CHUNK_BYTES):
                await stream.send(chunk)
                position += len(chunk)


def _refuse_partition(name: str | None) -> None:
    if name is not None:
        raise ValueError(f"this board has one storage and no partition {name!r}; leave the target out")

"""
A simulated board: power, a serial port with a real shell at its other end, and a web server.

It is a Jumpstarter driver, as a team writes one for its bench; with a real board, none of this is needed.
"""

# Jumpstarter's driver API has no types.
# mypy: disable-error-code="untyped-decorator,no-untyped-call,abstract"

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

from anyio import sleep
from anyio.abc import ObjectStream
from jumpstarter.driver import Driver, export, exportstream
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_network.driver import TcpNetwork
from jumpstarter_driver_power.common import PowerReading
from jumpstarter_driver_power.driver import PowerInterface

_BOOT = Path(__file__).with_name("boot.sh")


class Machine:
    """The board itself: while the power is on, a program runs on a terminal; its web server is always there."""

    def __init__(self) -> None:
        self.web = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
        Thread(target=self.web.serve_forever, daemon=True).start()
        self.terminal: int | None = None
        self._program: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        """Boot."""
        if self.terminal is not None:
            return
        self.terminal, board = os.openpty()
        os.set_blocking(self.terminal, False)
        self._program = subprocess.Popen(["setsid", "--ctty", "sh", _BOOT], stdin=board, stdout=board, stderr=board)
        os.close(board)

    def off(self) -> None:
        """Stop at once."""
        if self._program is not None and self.terminal is not None:
            self._program.kill()  # the terminal hangs up what runs in the shell
            self._program.wait()
            os.close(self.terminal)
            self.terminal = self._program = None


@dataclass(kw_only=True)
class SimulatedBoard(Composite):
    """A board with the children `power`, `serial` and `http`."""

    _machine: Machine = field(init=False, repr=False, default_factory=Machine)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.children = {
            "power": Power(machine=self._machine),
            "serial": Serial(machine=self._machine),
            "http": TcpNetwork(host="127.0.0.1", port=self._machine.web.server_port),
        }

    def close(self) -> None:
        """Switch the board off at the end of a lease."""
        super().close()
        self._machine.off()
        self._machine.web.shutdown()


@dataclass(kw_only=True)
class Power(PowerInterface, Driver):
    """The power supply: 5 V, 0.4 A."""

    machine: Any

    @export
    async def on(self) -> None:
        """Switch the board on."""
        self.machine.on()

    @export
    async def off(self) -> None:
        """Switch the board off."""
        self.machine.off()

    @export
    async def read(self) -> AsyncGenerator[PowerReading, None]:
        """Yield one measurement."""
        yield PowerReading(voltage=5.0, current=0.4 if self.machine.terminal is not None else 0.0)


@dataclass(kw_only=True)
class Serial(Driver):
    """The serial port."""

    machine: Any

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"

    @exportstream
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_Port, None]:
        """Open the port."""
        yield _Port(self.machine)


class _Port(ObjectStream[bytes]):
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def receive(self) -> bytes:
        while True:
            try:
                if self._machine.terminal is not None and (data := os.read(self._machine.terminal, 4096)):
                    return data
            except OSError:  # nothing to read, or the program has ended
                pass
            await sleep(0.01)

    async def send(self, item: bytes) -> None:
        if self._machine.terminal is not None:
            os.write(self._machine.terminal, item)

    async def send_eof(self) -> None:
        """Do nothing: a serial port cannot be closed in one direction."""

    async def aclose(self) -> None:
        """Do nothing: the port stays as it is."""

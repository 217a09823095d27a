"""A serial port with a program at its other end, such as a shell, and the faults that a real line has."""

from __future__ import annotations

import os
import random
import subprocess
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio import EndOfStream, sleep, wait_readable
from anyio.abc import ObjectStream
from jumpstarter.driver import Driver, export, exportstream

KERNEL = b"[ %4d.%06d] usb 1-1: new high-speed USB device number %d using xhci_hcd\r\n"
_CHUNK_BYTES = 1 << 16


class _Faults:
    """What the line does to characters; each with a probability."""

    def __init__(self) -> None:
        self.random = random.Random(0)
        self.typed = self.said = self.kernel = 0.0
        self.longest = 0

    def typed_through(self, data: bytes) -> bytes:
        """Return what arrives of typed characters."""
        if self.longest and len(data) > self.longest:
            data = data[: self.longest]  # the board's buffer is full
        return self._lose(data, self.typed)

    def said_through(self, data: bytes) -> bytes:
        """Return what arrives of the output, with messages of the kernel at any position."""
        data = self._lose(data, self.said)
        if not self.kernel:
            return data
        arrived = bytearray()
        for byte in data:
            if self.random.random() < self.kernel:
                arrived += KERNEL % (
                    self.random.randrange(9999),
                    self.random.randrange(10**6),
                    self.random.randrange(99),
                )
            arrived.append(byte)
        return bytes(arrived)

    def _lose(self, data: bytes, probability: float) -> bytes:
        if not probability:
            return data
        return bytes(byte for byte in data if self.random.random() >= probability)


@dataclass(kw_only=True)
class Program(Driver):
    """
    A program on a terminal of its own, started when the port is opened.

    Args:
        command: The program and its arguments.
        environment: Variables that it gets.
        baud: The speed of the line in both directions; 0 for no limit.
        columns: The width of the terminal.
    """

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    baud: int = 0
    columns: int = 80
    faults: _Faults = field(init=False, default_factory=_Faults)

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def set_faults(self, seed: int, typed: float, said: float, kernel: float, longest: int) -> None:
        """Lose characters from now on, print messages of the kernel, and lose what comes in long pieces."""
        self.faults.random.seed(seed)
        self.faults.typed, self.faults.said, self.faults.kernel = typed, said, kernel
        self.faults.longest = int(longest)  # numbers come as floats

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_Port, None]:
        """Start the program."""
        board, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (24, self.columns))
        program = subprocess.Popen(
            ["setsid", "--ctty", *self.command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "vt220", "PS1": "root@board:\\w# ", **self.environment},
            cwd="/tmp",
        )
        os.close(terminal)
        try:
            yield _Port(board, self.baud, self.faults)
        finally:
            os.close(board)
            program.terminate()
            program.wait(10)


class _Port(ObjectStream[bytes]):
    def __init__(self, board: int, baud: int, faults: _Faults) -> None:
        self._board = board
        self._pause = 10 / baud if baud else 0.0
        self._faults = faults

    async def receive(self) -> bytes:
        while True:
            await wait_readable(self._board)
            try:
                data = os.read(self._board, 16 if self._pause else _CHUNK_BYTES)
            except OSError:  # the program has ended
                raise EndOfStream from None
            await self._take_time(data)
            if data := self._faults.said_through(data):
                return data

    async def send(self, item: bytes) -> None:
        await self._take_time(item)
        os.write(self._board, self._faults.typed_through(item))

    async def send_eof(self) -> None:
        """Do nothing: a serial port cannot be closed in one direction."""

    async def aclose(self) -> None:
        """Do nothing: the driver closes the terminal."""

    async def _take_time(self, data: bytes) -> None:
        if self._pause:
            await sleep(len(data) * self._pause)

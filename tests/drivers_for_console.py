"""A serial port with U-Boot at its other end, which says as much as it is asked to."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio import create_memory_object_stream
from anyio.abc import ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from jumpstarter.driver import Driver, export, exportstream


@dataclass(kw_only=True)
class Uboot(Driver):
    """The port; who opens it twice gets a board of its own each time, and so hears nothing of the other."""

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_Port, None]:
        """Open the port."""
        yield _Port()


@dataclass(kw_only=True)
class Screen(Driver):
    """A camera that sees the same, always."""

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own uStreamer driver."""
        return "jumpstarter_driver_ustreamer.client.UStreamerClient"

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def snapshot(self) -> str:
        """Return a picture."""
        return b64encode(b"a picture").decode()


class _Port(ObjectStream[bytes]):
    def __init__(self) -> None:
        self._said: MemoryObjectSendStream[bytes]
        self._heard: MemoryObjectReceiveStream[bytes]
        self._said, self._heard = create_memory_object_stream[bytes](1 << 20)
        self._typed = ""

    async def receive(self) -> bytes:
        return await self._heard.receive()

    async def send(self, item: bytes) -> None:
        for character in item.decode():
            if character == "\x1b":
                await self._said.send(b"=> ")
            elif character == "\n":
                await self._answer(self._typed)
                self._typed = ""
            else:
                self._typed += character

    async def _answer(self, command: str) -> None:
        await self._said.send(f"{command}\r\n".encode())
        name, _, rest = command.removesuffix("; echo $?").partition(" ")
        if name == "printenv":
            await self._said.send(f"{rest}=of the board\r\n".encode())
        for number in range(int(rest) if name == "flood" else 0):
            await self._said.send(b"".join(b"%07d %055d\n" % (number * 1024 + each, each) for each in range(1024)))
        if name == "garbage":
            await self._said.send(bytes(range(256)) + b"\xef\xbf\xbe\r\n")
        await self._said.send(b"0\r\n=> " if command.endswith("echo $?") else b"=> ")

    async def send_eof(self) -> None:
        """Do nothing: a serial port cannot be closed in one direction."""

    async def aclose(self) -> None:
        self._said.close()
        self._heard.close()

"""Flashers: a slow one, one that needs the serial port of the board for itself, and that port."""

from __future__ import annotations

import os
import threading
import tty
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import sleep
from jumpstarter.driver import Driver, export
from jumpstarter_driver_composite.client import CompositeClient
from jumpstarter_driver_opendal.client import FlasherClient
from jumpstarter_driver_opendal.driver import FlasherInterface
from jumpstarter_driver_pyserial.driver import PySerial

_QUESTIONS = 20


@dataclass(kw_only=True)
class SlowFlasher(FlasherInterface, Driver):
    """A flasher that takes `delay` seconds for each piece of an image; it refuses the target `nothing`."""

    delay: float = 0.0

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def flash(self, source: str, target: str | None = None) -> int:
        """Read the image, and return its size."""
        if target == "nothing":
            raise ValueError("there is no target 'nothing'")
        size = 0
        async with self.resource(source) as stream:
            async for piece in stream:
                size += len(piece)
                await sleep(self.delay)
        self.logger.info("flashed %d bytes to %s", size, target)
        return size

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def dump(self, target: str, partition: str | None = None) -> None:
        """Send 1000 bytes."""
        async with self.resource(target) as stream:
            await stream.send(b"x" * 1000)


class FolderFlasherClient(FlasherClient):  # type: ignore[misc, unused-ignore]  # Jumpstarter's classes may have no types
    """The client of `FolderFlasher`."""

    def flash(self, path: Any, **options: Any) -> Any:
        """Flash each file below a folder to the target of its name, as fastboot does."""
        images: dict[str, Any] = {file.name: file for file in sorted(Path(path).rglob("*")) if file.is_file()}
        return super().flash(images, **options)  # type: ignore[no-untyped-call, unused-ignore]


@dataclass(kw_only=True)
class FolderFlasher(SlowFlasher):
    """A flasher that takes a folder of images."""

    @classmethod
    def client(cls) -> str:
        """Return the client class."""
        return "drivers_for_flashing.FolderFlasherClient"


class PortFlasherClient(CompositeClient):  # type: ignore[misc, unused-ignore]  # Jumpstarter's classes may have no types
    """The client of `PortFlasher`."""

    def flash(self, path: str) -> str:
        """Flash over the serial port."""
        return str(self.call("flash", path))  # type: ignore[no-untyped-call]


@dataclass(kw_only=True)
class PortFlasher(Driver):
    """A driver that flashes over the serial port at `url`, as esptool, west and picotool do."""

    url: str

    @classmethod
    def client(cls) -> str:
        """Return the client class."""
        return "drivers_for_flashing.PortFlasherClient"

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def flash(self, path: str) -> str:
        """Ask the boot loader; each answer that somebody else reads is missed."""
        import serial  # type: ignore[import-untyped, unused-ignore]

        with serial.Serial(self.url, timeout=1) as port:
            for number in range(_QUESTIONS):
                port.write(b"SYNC %d\n" % number)
                if (answer := port.readline()) != b"ACK %d\n" % number:
                    raise RuntimeError(f"no sync with the boot loader: question {number}, answer {answer!r}")
        return path


@dataclass(kw_only=True)
class Board(PySerial):
    """
    A serial port with a board behind it, which answers the boot loader's questions and echoes other lines.

    Args:
        url: Where the port is.
    """

    _board: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self._board, port = os.openpty()
        tty.setraw(port)
        Path(self.url).unlink(missing_ok=True)
        Path(self.url).symlink_to(os.ttyname(port))
        threading.Thread(target=_answer, args=[self._board], daemon=True).start()
        super().__post_init__()  # type: ignore[no-untyped-call]

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def say(self, text: str) -> None:
        """Print a line, whoever listens."""
        os.write(self._board, f"{text}\r\n".encode())


def _answer(board: int) -> None:
    """Answer each line that comes from the port."""
    heard = b""
    while True:
        heard += os.read(board, 4096)
        *lines, heard = heard.split(b"\n")
        for line in lines:
            os.write(board, b"ACK " + line[5:] + b"\n" if line.startswith(b"SYNC ") else b"heard " + line + b"\r\n")

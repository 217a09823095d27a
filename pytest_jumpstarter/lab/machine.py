"""
The simulation of the virtual board: power, boot, and a small shell on a serial line.

It knows nothing of drivers. `Line` sends text as a real board does: with CRLF line ends, and an echo of every typed
character. The same image gives the same boot log, byte for byte.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from typing import IO

PROMPT = "board:~# "
LOGIN = "board login: "

_LINE_BYTES = 64 * 1024
_LONGEST_VERSION = 80
_HELP = "commands: help, version, led [on|off], reboot, exit"


class Line:
    """
    The output of the board's serial line.

    There is one reader at a time, as on a real port: a new one replaces the old. Unread output is kept for the next
    reader, up to 64 KiB: a stream may be opened a moment after power on, and the boot log must not be lost.
    """

    def __init__(self) -> None:
        self._unread = bytearray()
        self._arrived = asyncio.Event()
        self._reader = 0

    def write(self, text: str) -> None:
        """Send text to the reader."""
        self._unread += text.encode()
        del self._unread[:-_LINE_BYTES]
        self._arrived.set()

    def clear(self) -> None:
        """Drop the unread output."""
        self._unread.clear()

    def open(self) -> int:
        """Register a new reader, and return its number, which `read` needs."""
        self._reader += 1
        self._arrived.set()
        return self._reader

    async def read(self, reader: int) -> bytes:
        """Wait for output and return it; empty if another reader has replaced this one."""
        while reader == self._reader:
            if self._unread:
                data = bytes(self._unread)
                self._unread.clear()
                return data
            self._arrived.clear()
            await self._arrived.wait()
        return b""


class Storage:
    """The board's flash: one image, in an unnamed file."""

    def __init__(self, factory_image: bytes) -> None:
        self._image: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (open until `close`)
        self._image.write(factory_image)

    @property
    def version(self) -> str | None:
        """The version, which is the first line of the image; None if it has none, so that it does not boot."""
        self._image.seek(0)
        line = self._image.readline(_LONGEST_VERSION + 1).rstrip(b"\r\n")
        text = line.decode("ascii", errors="replace").strip()
        return text if text.isprintable() and "\ufffd" not in text and 0 < len(text) <= _LONGEST_VERSION else None

    @property
    def size(self) -> int:
        """The image's size in bytes."""
        return self._image.seek(0, 2)

    def erase(self) -> None:
        """Remove the image, so that the board does not boot if flashing is interrupted."""
        self._image.seek(0)
        self._image.truncate()

    def append(self, data: bytes) -> None:
        """Append data to the image."""
        self._image.seek(0, 2)
        self._image.write(data)

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes from `position`."""
        self._image.seek(position)
        return self._image.read(size)

    def close(self) -> None:
        """Remove the image."""
        self._image.close()


class Machine:
    """
    One board.

    Args:
        storage: Its flash.
        serial: Its serial number, which the boot log prints.
        boot_time: Seconds from power on to the login prompt.
    """

    def __init__(self, storage: Storage, *, serial: str, boot_time: float) -> None:
        self.storage = storage
        self.line = Line()
        self._serial = serial
        self._boot_time = boot_time
        self._booting: asyncio.Task[None] | None = None
        self._shell: Shell | None = None
        self.is_on = False

    def on(self) -> None:
        """Switch power on, so that the board boots; does nothing if it is on."""
        if not self.is_on:
            self.is_on = True
            self._booting = asyncio.get_running_loop().create_task(self._boot())

    def off(self) -> None:
        """Switch power off; the board prints nothing more."""
        self.is_on = False
        self._shell = None
        if self._booting:
            self._booting.cancel()
            self._booting = None

    def type(self, data: bytes) -> None:
        """Receive input on the serial line; a board that is off or booting ignores it."""
        for character in data.decode("ascii", errors="ignore"):
            if self._shell:
                self._shell.type(character)

    async def _boot(self) -> None:
        version = self.storage.version
        lines = [f"Boot ROM 1.0, board serial {self._serial}", f"Storage: {self.storage.size} bytes"]
        lines += (
            ["no bootable image"] if version is None else [f"Booting image {version}", "Starting services ... done"]
        )
        for text in lines:
            await asyncio.sleep(self._boot_time / len(lines))
            self.line.write(text + "\r\n")
        if version is not None:
            self._shell = Shell(version, self.line.write, self._reboot)

    def _reboot(self) -> None:
        self.off()
        self.on()


class Shell:
    """A login prompt, and the shell behind it."""

    def __init__(self, version: str, write: Callable[[str], None], reboot: Callable[[], None]) -> None:
        self._version = version
        self._write = write
        self._reboot = reboot
        self._typed = ""
        self._is_logged_in = False
        self._has_seen_return = False
        self._led = "off"
        self._write(f"\r\nVirtual board {version}\r\n\r\n{LOGIN}")

    def type(self, character: str) -> None:
        """Receive one typed character, and echo it."""
        is_second = character == "\n" and self._has_seen_return  # CR LF is one Enter
        self._has_seen_return = character == "\r"
        if character in "\r\n":
            if not is_second:
                self._enter()
        elif character in "\b\x7f":
            if self._typed:
                self._typed = self._typed[:-1]
                self._write("\b \b")
        elif character == "\x03":
            self._typed = ""
            self._write(f"^C\r\n{self._prompt}")
        elif character.isprintable():
            self._typed += character
            self._write(character)

    @property
    def _prompt(self) -> str:
        return PROMPT if self._is_logged_in else LOGIN

    def _enter(self) -> None:
        typed, self._typed = self._typed.strip(), ""
        self._write("\r\n")
        if not self._is_logged_in:
            self._is_logged_in = bool(typed)
        elif typed == "reboot":
            self._write("Rebooting\r\n")
            self._reboot()
            return  # this shell has ended, so it prints no prompt
        elif typed:
            name, *arguments = typed.split()
            self._write(self._run(name, arguments))
        self._write(self._prompt)

    def _run(self, name: str, arguments: list[str]) -> str:
        """Run a command, and return its output."""
        match name, arguments:
            case "help", []:
                answer = _HELP
            case "version", []:
                answer = self._version
            case "led", []:
                answer = f"led is {self._led}"
            case "led", ["on" | "off" as state]:
                self._led, answer = state, ""
            case "exit", []:
                self._is_logged_in, answer = False, ""
            case ("help" | "version" | "led" | "exit" | "reboot", _):
                answer = f"{name}: bad arguments; {_HELP}"
            case _:
                answer = f"sh: {name}: not found"
        return answer and f"{answer}\r\n"

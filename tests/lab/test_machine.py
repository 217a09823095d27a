"""The virtual board's inside: boot, shell, serial line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pytest_jumpstarter.lab.machine import Line, Machine, Storage

BOOT_LOG = (
    b"Boot ROM 1.0, board serial 7\r\nStorage: 6 bytes\r\nBooting image 2.0.1\r\nStarting services ... done\r\n"
    b"\r\nVirtual board 2.0.1\r\n\r\nboard login: "
)


class Terminal:
    """Someone at the board's serial line."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._reader = machine.line.open()
        self._unread = b""

    async def until(self, text: bytes) -> bytes:
        """Read until `text` comes, and return all up to its end."""
        async with asyncio.timeout(10):
            while text not in self._unread:
                self._unread += await self._machine.line.read(self._reader)
        end = self._unread.index(text) + len(text)
        seen, self._unread = self._unread[:end], self._unread[end:]
        return seen

    async def run(self, command: str) -> str:
        """Type a command, and return what it prints."""
        self._machine.type(command.encode() + b"\r")
        echo_and_answer = (await self.until(b"board:~# ")).decode()
        assert echo_and_answer.startswith(f"{command}\r\n")
        return echo_and_answer.removeprefix(f"{command}\r\n").removesuffix("board:~# ").rstrip()

    @property
    def is_silent(self) -> bool:
        """Whether nothing came that was not asked for."""
        return not self._unread


def on_a_board(test: Callable[[Machine, Terminal], Awaitable[None]], image: bytes = b"2.0.1\n") -> None:
    """Run a test with a board that is off."""

    async def run() -> None:
        storage = Storage(image)
        machine = Machine(storage, serial="7", boot_time=0.01)
        await test(machine, Terminal(machine))
        machine.off()
        storage.close()

    asyncio.run(run())


async def login(machine: Machine, terminal: Terminal) -> None:
    """Boot and log in."""
    machine.on()
    await terminal.until(b"login: ")
    machine.type(b"root\r")
    await terminal.until(b"board:~# ")


def test_boot_log() -> None:
    """The same image gives the same boot log, byte for byte, at every boot."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        for _ in range(2):
            machine.on()
            assert await terminal.until(b"login: ") == BOOT_LOG
            machine.off()

    on_a_board(test)


@pytest.mark.parametrize("image", [b"", b"\n\n", b"\x00\x01\x02", "über\n".encode(), b"x" * 100])
def test_not_bootable(image: bytes) -> None:
    """An image without a version in its first line does not boot, and the board hears nothing."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        machine.on()
        await terminal.until(b"no bootable image\r\n")
        machine.type(b"root\r")
        assert terminal.is_silent

    on_a_board(test, image)


def test_login() -> None:
    """An empty user name is asked for again; any other gets a prompt; `exit` leads back."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        machine.on()
        await terminal.until(b"login: ")
        machine.type(b"\r")
        assert await terminal.until(b"login: ") == b"\r\nboard login: "
        machine.type(b"root\r")
        assert await terminal.until(b"# ") == b"root\r\nboard:~# "
        machine.type(b"exit\r")
        assert await terminal.until(b"login: ") == b"exit\r\nboard login: "

    on_a_board(test)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("help", "commands: help, version, led [on|off], reboot, exit"),
        ("version", "2.0.1"),
        ("led", "led is off"),
        ("led blue", "led: bad arguments; commands: help, version, led [on|off], reboot, exit"),
        ("reboot now", "reboot: bad arguments; commands: help, version, led [on|off], reboot, exit"),
        ("coffee", "sh: coffee: not found"),
        ("", ""),
    ],
)
def test_command(command: str, answer: str) -> None:
    """Each command answers, and an unknown one is not found."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        assert await terminal.run(command) == answer

    on_a_board(test)


def test_led() -> None:
    """The LED keeps its state until the power goes."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        assert await terminal.run("led on") == ""
        assert await terminal.run("led") == "led is on"
        machine.off()
        await login(machine, terminal)
        assert await terminal.run("led") == "led is off"

    on_a_board(test)


def test_reboot() -> None:
    """`reboot` boots again, from the ROM on."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        machine.type(b"reboot\r")
        assert await terminal.until(b"login: ") == b"reboot\r\nRebooting\r\n" + BOOT_LOG

    on_a_board(test)


@pytest.mark.parametrize("enter", [b"\r", b"\n", b"\r\n"])
def test_enter(enter: bytes) -> None:
    """CR, LF and CR LF are one Enter each."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        machine.type(b"version" + enter + b"led" + enter)
        assert await terminal.until(b"led is off\r\nboard:~# ") == (
            b"version\r\n2.0.1\r\nboard:~# led\r\nled is off\r\nboard:~# "
        )

    on_a_board(test)


def test_editing() -> None:
    """Backspace takes the last character back, Ctrl-C the whole line; odd bytes are not heard."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        machine.type(b"led \xff\x1b\x00xx\x7f\x08on\r")
        assert await terminal.until(b"# ") == b"led xx\b \b\b \bon\r\nboard:~# "
        machine.type(b"reboot\x03")
        assert await terminal.until(b"# ") == b"reboot^C\r\nboard:~# "
        assert await terminal.run("led") == "led is on"

    on_a_board(test)


def test_power_off_while_booting() -> None:
    """With the power off nothing more is said, wherever the boot was."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        machine.on()
        await terminal.until(b"Boot ROM")
        machine.off()
        machine.line.clear()
        machine.line.write("END")
        assert b"Starting" not in await terminal.until(b"END")

    on_a_board(test)


def test_on_twice() -> None:
    """Power that is on stays on: the board does not boot again."""

    async def test(machine: Machine, terminal: Terminal) -> None:
        await login(machine, terminal)
        machine.on()
        assert await terminal.run("version") == "2.0.1"

    on_a_board(test)


def test_line_keeps_the_unread() -> None:
    """What nobody read is there for the reader to come, the last 64 KiB of it."""

    async def test() -> None:
        line = Line()
        line.write("x" * 70_000 + "end")
        data = await line.read(line.open())
        assert (len(data), data[-3:]) == (65536, b"end")

    asyncio.run(test())


def test_line_has_one_reader() -> None:
    """A new reader takes over from the old, who gets the end."""

    async def test() -> None:
        line = Line()
        older = asyncio.create_task(line.read(line.open()))
        await asyncio.sleep(0)
        newer = line.open()
        assert await asyncio.wait_for(older, 10) == b""
        line.write("for the new one")
        assert await line.read(newer) == b"for the new one"

    asyncio.run(test())

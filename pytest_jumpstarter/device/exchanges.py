"""The two steps of a command with markers: send it until it begins, and read until it has ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import pexpect

from pytest_jumpstarter.device.prompt_console import REBOOT_TIMEOUT, TRIES, PromptConsole
from pytest_jumpstarter.device.shell_language import PosixExchange, clean, without_kernel
from pytest_jumpstarter.host import real_time

U_BOOT_BANNER = re.compile(r"(?:^|\n)U-Boot (?:SPL |TPL )?20\d\d\.\d\d[^\n]* \(\w\w\w \d\d 20\d\d[^\n]*\n")
"""The first line of U-Boot."""

_BEGIN_TIMEOUT = 10.0  # seconds in which the board must begin a command, besides the time to send it


class Exchange(Protocol):
    """A command with markers around its output: `PosixExchange` or `UBootExchange`."""

    @property
    def command(self) -> str:
        """The command."""

    def ended(self, *, noisy: bool = False) -> re.Pattern[str]:
        """Return what the board prints after the output."""

    def exit_code(self, match: re.Match[str]) -> int | None:
        """Return the exit code that a match of `ended` tells; None if it was damaged on the way."""


def begin(line: PromptConsole, command: str, deadline: float, *, reads_console: bool = False) -> PosixExchange:
    """
    Send a command to a POSIX shell until it arrives undamaged; return when its output begins.

    Raises:
        pexpect.TIMEOUT: It did not begin by `deadline`.
        ConsoleGarbled: It did not arrive, or its answer was damaged.
    """
    for _ in range(TRIES):
        exchange = PosixExchange(command, reads_console)
        line.console.discard()
        line.send(f"{exchange.line}\n")
        latest = real_time.monotonic() + _BEGIN_TIMEOUT + line.time_to_echo(exchange.line)
        try:
            index = _wait_for_begin(line, exchange, min(deadline, latest))
        except pexpect.TIMEOUT:
            if latest > deadline:
                raise
            line.lost = f"{command!r} was sent"
            break
        if index == 0:
            return exchange
        if index is None:
            break
    raise line.garbled(command)


def read_answer(
    line: PromptConsole, exchange: Exchange, deadline: float, *, login: re.Pattern[str] | None = None
) -> tuple[str, int]:
    """
    Return what a command printed, and its exit code.

    Args:
        line: The console.
        exchange: The command, which has begun.
        deadline: When pexpect.TIMEOUT is raised, by `time.monotonic()`.
        login: The login prompt, which also shows a boot.

    Raises:
        pexpect.TIMEOUT: It did not end by `deadline`.
        BoardRebooted: The board booted meanwhile.
        ConsoleGarbled: Its exit code was damaged.
    """
    said = ""
    patterns = [exchange.ended(), U_BOOT_BANNER, *([login] if login else [])]
    while (index := line.wait(patterns, deadline, noisy=lambda: [exchange.ended(noisy=True)])) is not None:
        said += line.console.before
        if index == 0:
            if (code := exchange.exit_code(line.console.match)) is None:
                break
            return said, code
        said += line.console.after
        if (more := _output_after(line, exchange, is_login=index == 2)) is None:
            line.lost = f"the board booted during {exchange.command!r}"
            raise line.rebooted(exchange.command, said)
        said += more
    raise line.garbled(exchange.command)


def _wait_for_begin(line: PromptConsole, exchange: PosixExchange, deadline: float) -> int | None:
    def noisy() -> Sequence[re.Pattern[str]]:
        return [exchange.begun(noisy=True), exchange.refused(noisy=True)]

    return line.wait([exchange.begun(), exchange.refused()], deadline, noisy=noisy)


def _output_after(line: PromptConsole, exchange: Exchange, *, is_login: bool) -> str | None:
    """
    Return the output that was read after what looked like a boot; None if it was one.

    A boot is a banner without an end of the command, or a login prompt and then silence.
    """
    if is_login:
        line.expect([pexpect.TIMEOUT], timeout=REBOOT_TIMEOUT)  # which leaves all to be read
        return "" if clean(without_kernel(line.console.before)).strip() else None
    ahead = re.compile(f"(?={exchange.ended().pattern})")
    index = line.expect([ahead, pexpect.TIMEOUT], timeout=REBOOT_TIMEOUT)
    return line.console.before if index == 0 else None

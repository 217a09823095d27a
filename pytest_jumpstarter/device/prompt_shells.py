"""`ZephyrShell` and `PlainShell`: shells without `;` or `echo`, where a command ends with the next prompt."""

from __future__ import annotations

import re

import pexpect

from pytest_jumpstarter.device.console import Console
from pytest_jumpstarter.device.session import DEFAULT_TIMEOUT
from pytest_jumpstarter.device.shell import ConsoleShell
from pytest_jumpstarter.device.shell_language import ESCAPES
from pytest_jumpstarter.host import real_time

_COLOR = r"(?:\x1b\[[0-9;]*m)*"
_RETVAL_TIMEOUT = 5.0  # seconds for the exit code, after the command has ended


class PlainShell(ConsoleShell):
    """
    A shell without exit codes, such as that of the virtual board: a command ends with the next prompt.

    `Result.exited` is None, so that `check` has nothing to check. Output that ends with a line like the prompt ends a
    command too early.
    """

    def _exchange(self, command: str, deadline: float) -> tuple[str, int | None]:
        self._line.type(command)
        return self._output(deadline), None

    def _output(self, deadline: float) -> str:
        """Return what the board prints until the next prompt."""
        self._line.wait([re.compile(r"\r*\n")], deadline)  # of Enter
        at_line = re.compile(rf"(?:^|\n){ESCAPES}{self._line.at_prompt.pattern}")
        self._line.wait([at_line], deadline)
        # output without a newline at its end has the prompt in the same line, and one more that was asked for
        in_line = rf"(?<=[^\r\n])(?:{ESCAPES}(?:{self._line.prompt}){ESCAPES}[\r\n]*)+$"
        return re.sub(in_line, "", self.console.before)

    def _answers(self, timeout: float) -> bool:
        self.console.discard()
        self._line.send("\n")
        try:
            self._line.wait([self._line.at_prompt], real_time.monotonic() + timeout)
        except pexpect.TIMEOUT:
            return False
        return True

    def _refuse(self, command: str) -> None:
        if not (command.isascii() and command.isprintable()):
            raise ValueError(f"{self.name}: this shell takes one line of ASCII, not {command!r}")


class ZephyrShell(PlainShell):
    """
    The shell of Zephyr; exit codes are asked for with `retval` (`CONFIG_SHELL_CMDS_RETURN_VALUE`).

    They are what the command's function returned, such as -22 for `-EINVAL`. Its log lines go to `Result.kernel`.
    """

    def __init__(
        self,
        console: Console,
        *,
        prompt: str = r"uart:~\$ ",
        timeout: float = DEFAULT_TIMEOUT,
        send_delay: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(console, prompt=prompt, timeout=timeout, send_delay=send_delay, name=name)
        # before it prints what its log has, the shell wipes its prompt
        self._wiped = re.compile(rf"{_COLOR}(?:{prompt}){_COLOR}\x1b\[\d+D\x1b\[J")

    def _exchange(self, command: str, deadline: float) -> tuple[str, int | None]:
        said, _ = super()._exchange(command, deadline)
        self._line.type("retval")
        answer = re.compile(rf"\n{_COLOR}(-?\d+)\r*\n")
        unknown = re.compile(r"retval: (?:command )?not found")
        latest = real_time.monotonic() + _RETVAL_TIMEOUT
        if self._line.wait([answer, unknown], latest) != 0:
            raise ValueError(
                f"{self.name}: this Zephyr has no `retval`; build it with CONFIG_SHELL_CMDS_RETURN_VALUE=y, "
                "or use PlainShell"
            )
        code = int(self.console.match[1])
        self._line.settle()
        return self._wiped.sub("", said), code

"""`Started`: a command that runs on the board while the test does something else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pexpect

from pytest_jumpstarter.device.command import Result, checked
from pytest_jumpstarter.device.console import Pattern
from pytest_jumpstarter.device.exchanges import read_answer
from pytest_jumpstarter.device.prompt_console import PromptConsole
from pytest_jumpstarter.device.shell_language import PosixExchange
from pytest_jumpstarter.host import real_time

STOP_TIMEOUT = 5.0
"""Seconds in which a command must end after Ctrl-C."""

_ECHO_OF_CTRL_C = re.compile(r"\^C(?=[\r\n]*$)")


class Started:
    """
    A command that runs on the board, in a `with` block; at its end Ctrl-C ends the command, unless it has ended.

    Attributes:
        command: The command.
        result: Its result; None until it has ended.
    """

    def __init__(self, line: PromptConsole, exchange: PosixExchange, *, command: str, timeout: float) -> None:
        self.command = command
        self.result: Result | None = None
        self._line = line
        self._exchange = exchange
        self._timeout = timeout
        self._began = real_time.monotonic()
        self._said = ""
        line.started = command

    def expect(self, pattern: Pattern | Sequence[Pattern], timeout: float | None = None) -> int:
        """Wait until the output of the command matches, as `Console.expect`; None is the timeout of the shell."""
        __tracebackhide__ = True  # pytest shows the line of the test
        console = self._line.console
        index = console.expect(pattern, timeout=self._timeout if timeout is None else timeout)
        if console.after:  # empty after a timeout, which reads nothing
            self._said += console.before + console.after
        return index

    def send(self, text: str) -> None:
        """Type `text`."""
        self._line.send(text)

    def sendline(self, text: str = "") -> None:
        """Type `text` and Enter."""
        self._line.send(f"{text}\n")

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Result:
        """
        Wait until the command ends by itself, and return its result.

        Args:
            timeout: Seconds; None for the timeout of the shell.
            check: Raise `CommandFailed` if it exits with another code than 0.

        Raises:
            CommandTimeout: It did not end in time.
            CommandFailed, BoardRebooted, ConsoleGarbled: As `Shell.run`.
        """
        __tracebackhide__ = True
        if self.result is None:
            self._finish(self._timeout if timeout is None else timeout)
        assert self.result is not None
        return checked(self.result, self._line.name) if check else self.result

    def stop(self) -> Result:
        """
        Press Ctrl-C, unless the command has ended, and return the result; which exit code it has, the command decides.

        Raises:
            CommandTimeout: It did not end in time.
        """
        __tracebackhide__ = True
        if self.result is None:
            self._line.console.sendcontrol("c")
            self._finish(STOP_TIMEOUT, is_interrupted=True)
        assert self.result is not None
        return self.result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        try:
            self.stop()
        except (pexpect.TIMEOUT, pexpect.EOF):
            if error is None:  # else the error of the block counts
                raise

    def _finish(self, timeout: float, *, is_interrupted: bool = False) -> None:
        began = real_time.monotonic()
        self._line.started = "" if is_interrupted else self._line.started
        try:
            said, code = self._read(began + timeout, is_interrupted)
        except pexpect.TIMEOUT:
            raise self._line.lose(f"{self.command!r} did not end within {timeout:g}s", began) from None
        self.result = self._line.result_of(self.command, self._said + said, code, self._began)
        self._line.started = ""
        self._line.settle()

    def _read(self, deadline: float, is_interrupted: bool) -> tuple[str, int]:
        """Return what the command still prints, and its exit code; a shell that Ctrl-C stopped too is asked for it."""
        line, exchange = self._line, self._exchange
        if not is_interrupted:
            return read_answer(line, exchange, deadline)
        said = ""
        if line.wait([exchange.ended(), line.at_prompt], deadline) != 0:
            said = line.console.before
            line.send(f"{exchange.question}\n")
            if line.wait([exchange.ended()], deadline) is None:
                raise line.garbled(self.command)
        code = exchange.exit_code(line.console.match)
        if code is None:
            raise line.garbled(self.command)
        return _ECHO_OF_CTRL_C.sub("", said or line.console.before), code

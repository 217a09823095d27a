"""`Shell`: runs commands in a POSIX shell on the console of a board; `UBootShell` does so at the prompt of U-Boot."""

from __future__ import annotations

import re
import secrets
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Self

import pexpect

from pytest_jumpstarter.device import shell_files
from pytest_jumpstarter.device.command import CommandRunner, Result, checked
from pytest_jumpstarter.device.console import Console
from pytest_jumpstarter.device.exchanges import begin, read_answer
from pytest_jumpstarter.device.prompt_console import TRIES, PromptConsole
from pytest_jumpstarter.device.session import DEFAULT_TIMEOUT
from pytest_jumpstarter.device.shell_language import (
    LONGEST_LINE,
    PosixExchange,
    UBootExchange,
    staged,
)
from pytest_jumpstarter.device.shell_login import Login
from pytest_jumpstarter.device.started import Started
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import learn

_RECOVER_TIMEOUT = 2.0  # seconds for a prompt after Ctrl-C
_SYNC_TIMEOUT = 5.0


class ConsoleShell(CommandRunner):
    r"""
    Base class of the shells on a console.

    Args:
        console: The console of the board.
        prompt: A regular expression for the prompt, such as `r"root@\S+:\S+# "`.
        user: Who logs in; None if there is no login.
        password: The password; it is masked in all output.
        login: A regular expression for the login prompt.
        timeout: Seconds that a command may take, and that `login` may take.
        send_delay: Seconds between two characters, for a board that loses what comes faster.
        name: The name of the shell in messages; by default that of the console.
    """

    poke = "\n"
    """What makes the shell print another prompt, and nothing else."""

    keys: Mapping[str, str] = MappingProxyType({})
    """What `login` sends at once where the board prints something: regular expressions, and the text to send."""

    def __init__(
        self,
        console: Console,
        *,
        prompt: str,
        user: str | None = None,
        password: str | None = None,
        login: str = r"login: ?$",
        timeout: float = DEFAULT_TIMEOUT,
        send_delay: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name or console.name, timeout)
        self.console = console
        self._line = PromptConsole(console, name=self.name, prompt=prompt, send_delay=send_delay, poke=self.poke)
        self._user = user
        self._password = password
        self._login = re.compile(login)
        learn(password)

    def run(self, command: str, *, check: bool = True, timeout: float | None = None) -> Result:
        """
        Run a command and return its result.

        Args:
            command: The command, as one types it; its input is empty.
            check: Raise `CommandFailed` if it exits with another code than 0.
            timeout: Seconds; None for the shell's own.

        Raises:
            CommandFailed: It exited with another code than 0.
            CommandTimeout: It did not end in time; the next `run` presses Ctrl-C first.
            BoardRebooted: The board booted, or its shell ended, meanwhile.
            ConsoleGarbled: Characters were lost or changed on the way.
            ConsoleFatal: The board printed a fatal message.
            ValueError: The shell cannot take such a command.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        timeout = self.timeout if timeout is None else timeout
        self._refuse(command)
        self._recover()
        began = real_time.monotonic()
        try:
            said, exited = self._exchange(command, began + timeout)
        except pexpect.TIMEOUT:
            raise self._line.lose(f"{command!r} did not end within {timeout:g}s", began) from None
        result = self._line.result_of(command, said, exited, began)
        return checked(result, self.name) if check else result

    def login(self, timeout: float | None = None) -> Self:
        """
        Go to a prompt that answers, from a boot, a login prompt or a prompt; return this shell.

        Enter is pressed only after a second of silence, so that no boot is interrupted.

        Args:
            timeout: Seconds; None for the shell's own.

        Raises:
            PermissionError: The board asks for a user or password that was not given, or refuses it.
            CommandTimeout: There was no prompt in time.
        """
        __tracebackhide__ = True
        timeout = self.timeout if timeout is None else timeout
        began = real_time.monotonic()
        login = Login(self._line, login=self._login, user=self._user, password=self._password, keys=self.keys)
        while login.wait_for_prompt(began + timeout):
            if self._answers(_SYNC_TIMEOUT):
                self._line.lost = ""
                return self
        raise self._line.timeout_error(f"it was not at a prompt within {timeout:g}s", began)

    @abstractmethod
    def _exchange(self, command: str, deadline: float) -> tuple[str, int | None]:
        """
        Send a command, and return what the board said, and the exit code, when there is a prompt again.

        Raise pexpect.TIMEOUT at the deadline.
        """

    def _answers(self, timeout: float) -> bool:
        """Return whether the shell answers `echo`, which leaves nothing of earlier answers to be read."""
        deadline = real_time.monotonic() + timeout
        for _ in range(TRIES):
            mark = secrets.token_hex(4)
            with suppress(pexpect.TIMEOUT):
                self._line.send(f'echo {mark[:4]}""{mark[4:]}\n')
                self._line.wait([re.compile(rf"{mark} ?\r*\n")], real_time.monotonic() + timeout / TRIES)
                self._line.wait([self._line.at_prompt], deadline)
                return True
        return False

    def _refuse(self, command: str) -> None:
        """Raise ValueError for a command that the shell cannot take."""
        if "\0" in command:
            raise ValueError(f"{self.name}: a command cannot have a NUL character: {command!r}")

    def _recover(self) -> None:
        """Go back to a prompt after a command that did not end, with Ctrl-C and without a long wait."""
        __tracebackhide__ = True
        if self._line.started:
            raise RuntimeError(f"{self.name}: {self._line.started!r} runs; leave its `with` block, or stop() it, first")
        if not self._line.lost:
            return
        began = real_time.monotonic()
        self.console.sendcontrol("c")
        if not self._answers(_RECOVER_TIMEOUT):
            raise self._line.timeout_error(f"it has had no prompt since {self._line.lost}", began)
        self._line.lost = ""


class Shell(ConsoleShell):
    """
    A POSIX shell on a console: bash, dash, ash of busybox.

    What a command changes stays: the folder, variables. Nothing is installed in the shell, so that a reboot or `su`
    does not matter. A line that arrives damaged is not run; a damaged answer is an error, never a wrong exit code.
    """

    def start(self, command: str, *, timeout: float | None = None) -> Started:
        """
        Start a command that runs until the end of the `with` block, where Ctrl-C ends it; it may read what is typed.

        Args:
            command: The command, as one types it.
            timeout: Seconds in which the board must begin it; None for the shell's own.

        Raises:
            CommandTimeout: The board did not begin it in time.
            ConsoleGarbled, ConsoleFatal: As `run`.
        """
        __tracebackhide__ = True
        timeout = self.timeout if timeout is None else timeout
        self._refuse(command)
        self._recover()
        began = real_time.monotonic()
        try:
            exchange = begin(self._line, self._short(command, began + timeout), began + timeout, reads_console=True)
        except pexpect.TIMEOUT:
            raise self._line.lose(f"{command!r} did not begin within {timeout:g}s", began) from None
        return Started(self._line, exchange, command=command, timeout=self.timeout)

    def put(self, content: bytes | str, path: str, *, mode: int | None = None) -> None:
        """
        Write a small file on the board; it is compared with what arrived.

        Args:
            content: Up to 1 MiB; text is UTF-8.
            path: Where.
            mode: Its permissions, such as `0o755`; None for those that new files have.

        Raises:
            ValueError: It is larger.
            CommandFailed: The board cannot write it.
            ConsoleGarbled: Something else arrived.
        """
        __tracebackhide__ = True
        shell_files.put(self, content, path, mode)

    def get(self, path: str) -> bytes:
        """
        Return the content of a small file on the board, up to 1 MiB; it is compared with what arrived.

        Raises:
            ValueError: It is larger.
            CommandFailed: The board cannot read it.
            ConsoleGarbled: Something else arrived.
        """
        __tracebackhide__ = True
        return shell_files.get(self, path)

    def _exchange(self, command: str, deadline: float) -> tuple[str, int | None]:
        return self._exchange_short(self._short(command, deadline), deadline)

    def _exchange_short(self, command: str, deadline: float) -> tuple[str, int]:
        answer = read_answer(self._line, begin(self._line, command, deadline), deadline, login=self._login)
        self._line.settle()
        return answer

    def _short(self, command: str, deadline: float) -> str:
        """Return the command if it fits in a line; else one that runs it, after its parts were sent."""
        if len(PosixExchange(command).line) <= LONGEST_LINE:
            return command
        *parts, last = staged(command)
        for part in parts:
            self._exchange_short(part, deadline)
        return last


class UBootShell(ConsoleShell):
    """
    The prompt of U-Boot; `login` stops its countdown.

    Args:
        console: The console of the board.
        prompt: A regular expression for the prompt.
        stop: What is typed to stop the countdown.
        timeout: Seconds that a command may take, and that `login` may take.
        send_delay: Seconds between two characters, for a board that loses what comes faster.
        name: The name of the shell in messages; by default that of the console.
    """

    poke = "\x03"  # after Enter alone, U-Boot runs the last command again

    def __init__(
        self,
        console: Console,
        *,
        prompt: str = "=> ",
        stop: str = " ",
        timeout: float = DEFAULT_TIMEOUT,
        send_delay: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(console, prompt=prompt, timeout=timeout, send_delay=send_delay, name=name)
        self.keys = {r"Hit any key to stop autoboot|to stop autoboot|[Aa]utoboot in \d+": stop}

    def _exchange(self, command: str, deadline: float) -> tuple[str, int | None]:
        exchange = UBootExchange(command)
        self._line.type(exchange.line)
        if self._line.wait([exchange.begun()], deadline) is None:
            raise self._line.garbled(command)
        answer = read_answer(self._line, exchange, deadline)
        self._line.settle()
        return answer

    def _refuse(self, command: str) -> None:
        if not (command.isascii() and command.isprintable()):
            raise ValueError(f"{self.name}: U-Boot takes one line of ASCII, not {command!r}")
        try:
            shlex.split(command)
        except ValueError as exc:  # U-Boot would wait for the rest
            raise ValueError(f"{self.name}: {command!r} cannot be run: {exc}") from exc

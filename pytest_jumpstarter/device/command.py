"""`Result` and the errors of a command on a board, and `CommandRunner`, the base class of all shells."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import pexpect

from pytest_jumpstarter.device.quoted import tail
from pytest_jumpstarter.device.session import DEFAULT_TIMEOUT
from pytest_jumpstarter.host import real_time

POLL_INTERVAL = 0.5
"""Seconds between two tries of `wait_until`."""

_SHORTEST_TRY = 1.0  # seconds that `wait_until` leaves for a command, even at the end of its time


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    The result of a command on a board.

    It is neither true nor false, so that a forgotten `.ok` cannot pass a test; `str()` of it is `stdout`.

    Attributes:
        command: The command, as the test gave it.
        exited: The exit code; None if the shell has none (`PlainShell`).
        stdout: What the command printed, without the newlines at its end. On a console stderr is part of it.
        stderr: What it printed there, over SSH; empty on a console.
        kernel: Lines of the kernel that came meanwhile, and are not in `stdout`.
        duration: Seconds from sending the command to its end.
    """

    command: str
    exited: int | None
    stdout: str
    stderr: str = ""
    kernel: tuple[str, ...] = ()
    duration: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the command exited 0."""
        return self.exited == 0

    @property
    def lines(self) -> list[str]:
        """The lines of `stdout`."""
        return self.stdout.splitlines()

    def __bool__(self) -> bool:
        raise TypeError("a Result is neither true nor false; use .ok, .exited or .stdout")

    def __str__(self) -> str:
        return self.stdout


class CommandFailed(AssertionError):
    """
    A command on the board exited with another code than 0.

    Attributes:
        result: The result of the command.
    """

    __module__ = "pytest_jumpstarter"  # where tests import it from; tracebacks show it

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message, result)
        self.result = result

    def __str__(self) -> str:
        return str(self.args[0])


class CommandTimeout(pexpect.TIMEOUT):
    """A command did not end in time, or its shell does not answer; the message quotes what the board said."""

    __module__ = "pytest_jumpstarter"


class CommandRunner(ABC):
    """
    Base class of the shells: what they do by `run` alone.

    Attributes:
        name: The name of the shell in messages.
        timeout: Seconds that a command may take if `run` is not told.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self.timeout = timeout

    @abstractmethod
    def run(self, command: str, *, check: bool = True, timeout: float | None = None) -> Result:
        """
        Run a command and return its result.

        Args:
            command: The command, as one types it.
            check: Raise `CommandFailed` if it exits with another code than 0.
            timeout: Seconds; None for the shell's own.
        """

    def wait_until(
        self,
        command: str,
        *,
        match: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        interval: float = POLL_INTERVAL,
    ) -> Result:
        """
        Run a command again and again until it exits 0 and its output matches; return that result.

        Args:
            command: The command.
            match: A regular expression that its output must contain; None if the exit code is enough.
            timeout: Seconds.
            interval: Seconds from one end to the next start.

        Raises:
            CommandTimeout: It did not in time; the message quotes the last result.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        deadline = real_time.monotonic() + timeout
        while True:
            left = deadline - real_time.monotonic()
            result = self.run(command, check=False, timeout=max(_SHORTEST_TRY, min(left, self.timeout)))
            if result.exited in (0, None) and (match is None or re.search(match, result.stdout)):
                return result
            if real_time.monotonic() + interval > deadline:
                break
            real_time.sleep(interval)
        wanted = "exit 0" if match is None else f"print a match of {match!r}"
        raise CommandTimeout(
            f"{self.name}: {command!r} did not {wanted} within {timeout:g}s; "
            f"the last time it {_ended(result)} and said:\n{tail(_said(result))}"
        )


def checked(result: Result, name: str) -> Result:
    """
    Return the result of a command that did not fail.

    Raises:
        CommandFailed: It exited with another code than 0; `name` is the shell's, for the message.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    if result.exited:
        raise CommandFailed(f"{name}: {result.command!r} {_ended(result)}; it said:\n{tail(_said(result))}", result)
    return result


def _ended(result: Result) -> str:
    return "ended" if result.exited is None else f"exited {result.exited}"


def _said(result: Result) -> str:
    return "\n".join(filter(None, (result.stdout, result.stderr)))

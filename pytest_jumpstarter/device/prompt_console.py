"""`PromptConsole`: a console with a shell at its other end: typing at its pace, waiting, prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pexpect

from pytest_jumpstarter.device.call_window import mark_call
from pytest_jumpstarter.device.command import CommandTimeout, Result
from pytest_jumpstarter.device.console import Console
from pytest_jumpstarter.device.quoted import tail
from pytest_jumpstarter.device.shell_language import AT_END, KERNEL_MESSAGE, clean, split_kernel, without_kernel
from pytest_jumpstarter.errors import BoardRebooted, ConsoleGarbled
from pytest_jumpstarter.host import real_time

TRIES = 3
"""How often a line is sent that does not arrive as it was sent."""

REBOOT_TIMEOUT = 1.0
"""Seconds in which what looks like a boot may turn out to be the output of a command."""

_SEARCHED = 1 << 16  # characters at the end of the output in which an answer is looked for
_FIRST_LOOK = 0.1  # seconds until the first look at an answer that does not come; then twice as long each time
_LOOK = 0.5
_SILENCE = 1.0  # seconds of silence at what looks like a prompt, after which the answer may be missing
_SETTLE_TIMEOUT = 1.0  # seconds for the prompt after an answer, before another one is asked for
_ECHO_TIMEOUT = 2.0
_WRAP = r"(?:\x1b\[[0-9;?]*[A-Za-z]| ?[\r\n])*"  # between two characters of an echo: bash ends a full line with " \r"
_SECONDS_PER_CHARACTER = 0.02  # of a line that is typed, at the slowest: 600 baud


class PromptConsole:
    """
    A console with a shell at its other end.

    Args:
        console: The console.
        name: Its name in messages.
        prompt: A regular expression for the prompt.
        send_delay: Seconds between two characters that are sent.
        poke: What makes the shell print another prompt, and nothing else.

    Attributes:
        at_prompt: Matches where the output ends with the prompt.
        lost: Since when there is no prompt, as a phrase; empty if there is one.
        started: The command that `Shell.start` has started and that has not ended; empty if there is none.
    """

    def __init__(self, console: Console, *, name: str, prompt: str, send_delay: float, poke: str) -> None:
        if re.search(prompt, ""):
            raise ValueError(f"prompt={prompt!r} matches an empty text, and so everywhere; write what the board prints")
        self.console = console
        self.name = name
        self.prompt = prompt
        self.at_prompt = re.compile(f"(?:{prompt}){AT_END}")
        self.send_delay = send_delay
        self.poke = poke
        self.lost = ""
        self.started = ""

    def expect(self, patterns: Sequence[re.Pattern[str] | type[pexpect.TIMEOUT]], timeout: float) -> int:
        """Return the index of the pattern that matches; only the end of a long output is searched again and again."""
        __tracebackhide__ = True  # pytest shows the line of the test
        return self.console.look(patterns, timeout, _SEARCHED)

    def send(self, text: str) -> None:
        """Send characters, no faster than the board takes them."""
        if not self.send_delay:
            self.console.send(text)
            return
        for character in text:
            self.console.send(character)
            real_time.sleep(self.send_delay)

    def time_to_echo(self, text: str) -> float:
        """Return the seconds after which the echo of a text must have come."""
        return _ECHO_TIMEOUT + len(text) * (_SECONDS_PER_CHARACTER + self.send_delay)

    def type(self, line: str) -> None:
        """
        Type a line, and Enter once its echo shows that it arrived.

        Raises:
            ConsoleGarbled: Its echo is another one.
        """
        echo = re.compile(_WRAP.join(map(re.escape, line)))
        for _ in range(TRIES):
            self.console.discard()
            self.send(line)
            if not self.expect([echo, pexpect.TIMEOUT], timeout=self.time_to_echo(line)):
                self.send("\n")
                return
            self.console.sendcontrol("c")
            self.settle()
        raise self.garbled(line)

    def wait(
        self,
        patterns: Sequence[re.Pattern[str]],
        deadline: float,
        *,
        noisy: Callable[[], Sequence[re.Pattern[str]]] = list,
    ) -> int | None:
        """
        Return the index of the pattern that matches; None if the shell is at a prompt instead.

        Args:
            patterns: What is waited for.
            deadline: When pexpect.TIMEOUT is raised, by `time.monotonic()`.
            noisy: Returns patterns that match in spite of messages of the kernel; they are tried if some came.
        """
        seen, asked, look, changed = "", 0, _FIRST_LOOK, real_time.monotonic()
        while True:
            left = deadline - real_time.monotonic()
            index = self.expect([*patterns, pexpect.TIMEOUT], timeout=max(0.0, min(left, look)))
            look = min(2 * look, _LOOK)
            if index == len(patterns) and KERNEL_MESSAGE.search(self.console.before):
                index = self._match_now(noisy(), otherwise=index)
            if index < len(patterns):
                return index
            if left <= 0:
                raise pexpect.TIMEOUT("")
            if self.console.before != seen:
                seen, changed = self.console.before, real_time.monotonic()
            elif real_time.monotonic() - changed >= _SILENCE and self.at_prompt.search(without_kernel(seen)):
                if asked and len(seen) > asked:
                    return None
                if not asked:  # output may look like a prompt, but only a shell answers with another one
                    asked = len(seen)
                    self.send(self.poke)

    def settle(self) -> None:
        """Wait for the prompt after an answer, so that the next line is not lost; noise may have broken it."""
        for _ in range(TRIES):
            deadline = real_time.monotonic() + _SETTLE_TIMEOUT
            while real_time.monotonic() < deadline:
                index = self.expect([self.at_prompt, pexpect.TIMEOUT], timeout=_FIRST_LOOK)
                if index == 0 or self.at_prompt.search(without_kernel(self.console.before)):
                    return
            self.send(self.poke)
        self.lost = "the last command"

    def result_of(self, command: str, said: str, exited: int | None, began: float) -> Result:
        """Return the result of a command that began at `began` and has just ended."""
        duration = real_time.monotonic() - began
        stdout, kernel = split_kernel(clean(said), command)
        return Result(command=command, exited=exited, stdout=stdout, kernel=kernel, duration=duration)

    def lose(self, what: str, began: float) -> CommandTimeout:
        """Note since when there is no prompt, and return the error that says so."""
        self.lost = what
        return self.timeout_error(what, began)

    def timeout_error(self, what: str, began: float) -> CommandTimeout:
        """Return the error for what did not come in time."""
        error = CommandTimeout(f"{self.name}: {what}; it said:\n{tail(clean(self.console.before))}")
        mark_call(error, began)
        return error

    def garbled(self, command: str) -> ConsoleGarbled:
        """Return the error for a command or an answer that did not arrive as it was sent."""
        return ConsoleGarbled(
            f"{self.name}: {command!r} or its answer was damaged on the way: characters were lost, or something else "
            "was printed into it. If the board reads slowly, give the shell a pause between characters, "
            f"such as send_delay=0.01; it said:\n{tail(clean(self.console.before))}"
        )

    def rebooted(self, command: str, said: str) -> BoardRebooted:
        """Return the error for a boot during a command."""
        return BoardRebooted(
            f"{self.name}: the board booted, or its shell ended, during {command!r}; it said:\n{tail(clean(said))}"
        )

    def _match_now(self, patterns: Sequence[re.Pattern[str]], *, otherwise: int) -> int:
        index = self.expect([*patterns, pexpect.TIMEOUT], timeout=0)
        return index if index < len(patterns) else otherwise

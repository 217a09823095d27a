"""`Login`: the way of a console from wherever the board is to a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pexpect

from pytest_jumpstarter.device.prompt_console import PromptConsole
from pytest_jumpstarter.device.shell_language import clean, without_kernel
from pytest_jumpstarter.host import real_time

SILENCE = 1.0
"""Seconds of silence after which a prompt is asked for."""

_LOOK = 0.2  # seconds of silence after which the end of what came counts
_PASSWORD = re.compile(r"[Pp]assword: ?$")
_CONTINUES = re.compile(r"(?:^|\n)> $")  # the shell waits for the rest of a command
_REFUSED = r"[Ll]ogin incorrect|[Aa]uthentication failure"


class Login:
    """
    One login: what was typed and seen since it began.

    Args:
        line: The console.
        login: The login prompt.
        user: Who logs in; None if nobody is known.
        password: The password; None if there is none.
        keys: What is sent at once where a pattern matches.
    """

    def __init__(
        self,
        line: PromptConsole,
        *,
        login: re.Pattern[str],
        user: str | None,
        password: str | None,
        keys: Mapping[str, str],
    ) -> None:
        self._line = line
        self._console = line.console
        self._login = login
        self._user = user
        self._password = password
        self._keys = list(keys.items())
        self._typed: list[str] = []  # since the login began, or was refused
        self._was_refused = False
        self._seen = ""
        self._changed = real_time.monotonic()

    def wait_for_prompt(self, deadline: float) -> bool:
        """Answer what the board asks until it shows the prompt; return False if it does not by `deadline`."""
        while real_time.monotonic() < deadline:
            if self._is_silent() and self._step():
                return True
        return False

    def _is_silent(self) -> bool:
        """Read for a moment; return whether nothing came."""
        patterns = [pattern for pattern, _ in self._keys]
        index = self._console.expect([*patterns, _REFUSED, pexpect.TIMEOUT], timeout=_LOOK)
        if index < len(patterns):
            self._console.send(self._keys[index][1])
        elif index == len(patterns):
            self._check_refusal()
        elif index > len(patterns) and self._console.before == self._seen:
            return True
        self._seen = self._console.before if index > len(patterns) else ""
        self._changed = real_time.monotonic()
        return False

    def _check_refusal(self) -> None:
        """
        Raise PermissionError if the board refused the user and the password; begin again if it may have read others.

        A slow board reads an Enter, which asked for its prompt, as the user. Then it reads the user as the password.
        """
        if "user" in self._typed:
            if self._was_refused or self._typed in (["user"], ["user", "password"]):
                raise PermissionError(f"{self._line.name}: the board refused the login of {self._user!r}")
            self._was_refused = True
        self._typed.clear()

    def _step(self) -> bool:
        """Do what the end of the output asks for; return whether it is the prompt."""
        said = without_kernel(self._seen)
        if self._line.at_prompt.search(said):
            self._forget()
            self._typed.append("command")  # with which the caller tries whether it is the prompt
            return True
        if self._login.search(clean(said)):
            self._answer("user", self._user)
        elif _PASSWORD.search(clean(said)):
            self._answer("password", self._password if "user" in self._typed else "")
        elif real_time.monotonic() - self._changed >= SILENCE:
            self._line.send("\x03" if _CONTINUES.search(clean(said)) else self._line.poke)
            self._typed.append("enter")
            self._forget()
        return False

    def _answer(self, what: str, text: str | None) -> None:
        if text is None:
            raise PermissionError(f"{self._line.name} asks for a {what}, and none is given: Shell(…, {what}=…)")
        self._line.send(f"{text}\n")
        self._typed.append(what)
        self._forget()

    def _forget(self) -> None:
        """Drop what was read, so that it is answered once."""
        self._console.discard()
        self._seen = ""
        self._changed = real_time.monotonic()

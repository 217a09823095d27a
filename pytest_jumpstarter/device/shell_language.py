"""
What is sent to a shell for a command, and how its answer is recognised: markers, kernel messages, escape codes.

The line that runs a command on a POSIX shell is made so that nothing can be taken for its answer by mistake:

- The markers are random for each command, and in two pieces in the line, so that its echo is not taken for the answer.
- The command is one quoted word of printable ASCII. Tabs, newlines, open quotes and comments cannot reach the rest.
- The shell counts the characters of the line before it runs it: a line that lost some is not run.
- The exit code is sent twice, once combined with a random number. A code that was damaged on the way does not match.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

LONGEST_LINE = 800
"""Characters of a line; the line editor of busybox takes 1023."""

_PIECE = 400  # characters of a long command that one line carries, as they are written there

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[@-Z\\-_=>78])")
ESCAPES = f"(?:{_ANSI.pattern})*"
"""Any escape codes: before a prompt, bash sets the title of a terminal and how it pastes."""

_KERNEL = r"(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? [^\n]*"
_ZEPHYR_LOG = r"\[\d\d:\d\d:\d\d\.\d{3},\d{3}\] <\w+> [^\n]*"
_KERNEL_LINE = re.compile(f"(?:{_KERNEL}|{_ZEPHYR_LOG})")
KERNEL_MESSAGE = re.compile(rf"{_KERNEL}\n")
"""A message of the kernel, anywhere in a line."""

_NOISE = rf"[\r\n]*{_KERNEL}\n"  # a message of the kernel where a marker should go on
_TALKS_OF_KERNEL = re.compile(r"dmesg|/proc/kmsg|cat /dev/kmsg|journalctl|/var/log\b")

AT_END = r"(?:\x1b\[[0-9;?]*[A-Za-z])*$"
"""Follows a prompt: busybox asks for the position of the cursor after it, others switch colours off."""


def without_escapes(text: str) -> str:
    """Return the text without escape codes."""
    return _ANSI.sub("", text)


def clean(text: str) -> str:
    """Return the text of an output: without escape codes, with a newline at the end of each line."""
    text = re.sub(r"\r*\n|\r", "\n", without_escapes(text))
    return re.sub(r"[^\n]\x08", "", text)


def without_kernel(text: str) -> str:
    """Return the text without messages of the kernel, which may begin anywhere in a line."""
    return KERNEL_MESSAGE.sub("", text)


def split_kernel(text: str, command: str) -> tuple[str, tuple[str, ...]]:
    """Return a cleaned output without the lines of the kernel, and these; all belongs to a command that reads them."""
    if _TALKS_OF_KERNEL.search(command):
        return text.rstrip("\n"), ()
    lines = text.split("\n")
    kernel = tuple(line for line in lines if _KERNEL_LINE.fullmatch(line))
    kept = [line for line in lines if not _KERNEL_LINE.fullmatch(line)] if kernel else lines
    return "\n".join(kept).rstrip("\n"), kernel


@dataclass(frozen=True, slots=True)
class PosixExchange:
    """
    One command that is sent to a POSIX shell.

    Attributes:
        command: The command.
        reads_console: Whether the command may read what is typed; else its input is empty.
    """

    command: str
    reads_console: bool = False
    _mark: str = field(default_factory=lambda: secrets.token_hex(4))
    _key: int = field(default_factory=lambda: 20_000 + secrets.randbelow(40_000))

    @property
    def line(self) -> str:
        """The line that runs the command."""
        first, second = self._mark[:4], self._mark[4:]
        source = "" if self.reads_console else " </dev/null"
        script = (
            f'printf "%s%s\\n" {first} {second}B; command eval {_quoted(self.command)}{source}; '
            f'__jmp={first}"{second}".$?; {self._tell}'
        )
        script_word = "'" + script.replace("'", "'\\''") + "'"
        refuse = f'printf "%s%s\\n" {first} {second}X'
        return f' __jmp={script_word}; case ${{#__jmp}} in {len(script)}) eval "$__jmp";; *) {refuse};; esac'

    @property
    def question(self) -> str:
        """A line that asks for the exit code of a command that Ctrl-C has ended, with the rest of its line."""
        return f' __jmp={self._mark[:4]}"{self._mark[4:]}".$?; {self._tell}'

    @property
    def _tell(self) -> str:
        code = "${__jmp#*.}"
        return f'printf "\\n%s%s %s %s\\n" {self._mark[:4]} {self._mark[4:]}E "{code}" "$(({self._key} ^ {code}))"'

    def begun(self, *, noisy: bool = False) -> re.Pattern[str]:
        """Return what the board prints before the output; `noisy`: messages of the kernel may be printed into it."""
        return _marker(f"{self._mark}B", r"\r*\n", noisy)

    def refused(self, *, noisy: bool = False) -> re.Pattern[str]:
        """Return what the board prints if the line has not arrived as it was sent; nothing of it was run."""
        return _marker(f"{self._mark}X", r"\r*\n", noisy)

    def ended(self, *, noisy: bool = False) -> re.Pattern[str]:
        """Return what the board prints after the output."""
        digits = rf"((?:\d|{_NOISE})+)" if noisy else r"(\d+)"
        gap = f"(?:{_NOISE})*" if noisy else ""
        return _marker(f"{self._mark}E ", rf"{digits} {gap}{digits}{gap}\r*\n", noisy)

    def exit_code(self, match: re.Match[str]) -> int | None:
        """Return the exit code that a match of `ended` tells; None if it was damaged on the way."""
        code, check = (re.sub(_NOISE, "", group) for group in match.groups())
        return int(code) if code.isdigit() and check.isdigit() and int(check) ^ int(code) == self._key else None


@dataclass(frozen=True, slots=True)
class UBootExchange:
    """
    One command that is sent to U-Boot, whose shell has neither `printf` nor arithmetic.

    Attributes:
        command: The command.
    """

    command: str
    _mark: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def line(self) -> str:
        """The line that runs the command."""
        first, second = self._mark[:4], self._mark[4:]
        return f'echo {first}"{second}"B; {self.command}; echo {first}"{second}"E $? $?'

    def begun(self) -> re.Pattern[str]:
        """Return what the board prints before the output."""
        return re.compile(rf"{self._mark}B ?\r*\n")

    def ended(self, *, noisy: bool = False) -> re.Pattern[str]:  # noqa: ARG002  # U-Boot has no such messages
        """Return what the board prints after the output."""
        return re.compile(rf"{self._mark}E (\d+) (\d+) ?\r*\n")

    def exit_code(self, match: re.Match[str]) -> int | None:
        """Return the exit code that a match of `ended` tells; None if it was damaged on the way."""
        return int(match[1]) if match[1] == match[2] else None


def staged(command: str) -> Iterator[str]:
    """Yield commands for a POSIX shell, none of them long, that together are one long command; the last one runs it."""
    yield "__jmp_long="
    piece = ""
    for character in command:
        if len(_double_quoted(_double_quoted(piece))) + piece.count("'") * 3 >= _PIECE:
            yield f'__jmp_long="$__jmp_long"{_double_quoted(piece)}'
            piece = ""
        piece += _for_printf(character)
    yield f'__jmp_long="$__jmp_long"{_double_quoted(piece)}'
    yield 'command eval "$(printf "$__jmp_long")"'


def _marker(text: str, rest: str, noisy: bool) -> re.Pattern[str]:
    return re.compile((f"(?:{_NOISE})*".join([*text, ""]) if noisy else text) + rest)


def _quoted(command: str) -> str:
    """Return the command as one word of printable ASCII."""
    if command.isascii() and command.isprintable():
        return _double_quoted(command)
    return f'"$(printf {_double_quoted("".join(map(_for_printf, command)))})"'


def _for_printf(character: str) -> str:
    """Return a character as the format of `printf` has it."""
    if character in "\\%":
        return character * 2
    if character.isascii() and character.isprintable() and character != "-":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogateescape"))


def _double_quoted(text: str) -> str:
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'

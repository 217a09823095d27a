"""A program that behaves on its terminal as U-Boot does: countdown, editing, Ctrl-C, Enter that repeats, `reset`."""

from __future__ import annotations

import os
import select
import shlex
import sys
import time
import tty

BANNER = "U-Boot 2023.01 (Jan 09 2023 - 16:07:33 +0000)\r\n\r\nDRAM:  128 MiB\r\nIn:    serial\r\n"
PROMPT = "=> "
COUNTDOWN_SECONDS = 5


class UBoot:
    """U-Boot from its banner on; `end` is what `echo` prints after its words, in some builds a space."""

    def __init__(self, end: str) -> None:
        self._end = end
        self._variables = {"bootdelay": "2"}
        self._status = 0
        self._last = ""

    def serve(self) -> None:
        """Boot, then read and run commands until the terminal closes."""
        tty.setraw(0)
        while self._boot():
            while self._read_line():
                pass

    def _boot(self) -> bool:
        """Print what U-Boot prints; return whether a key has stopped the countdown, else Linux boots, and is silent."""
        self._variables.pop("answer", None)  # it was not saved
        write(f"\r\n\r\n{BANNER}Hit any key to stop autoboot: ")
        for left in range(COUNTDOWN_SECONDS, 0, -1):
            write(f"\b\b{left:2}")
            if self._is_typed(1):
                read_key()
                write(f"\b\b 0 \r\n{PROMPT}")
                return True
        write("\b\b 0 \r\nStarting kernel ...\r\n\r\n")
        while read_key():
            pass
        return False

    def _read_line(self) -> bool:
        """Read a line and run it; return False after a reset."""
        line = ""
        while (character := read_key()) not in "\r\n":
            if character == "\x03":
                line = ""
                write(f"<INTERRUPT>\r\n{PROMPT}")
            elif character.isprintable():
                line += character
                write(character)
        write("\r\n")
        self._last = line or self._last  # Enter alone runs the last line again
        is_up = self._run(self._last)
        if is_up:
            write(PROMPT)
        return is_up

    def _run(self, line: str) -> bool:
        """Run the commands of a line; return False after a reset."""
        words = shlex.shlex(line, posix=True, punctuation_chars=";")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word != ";":
                command.append(str(self._status) if word == "$?" else word)
            elif command:
                if command[0] == "reset":
                    write("resetting ...\r\n")
                    return False
                self._status = self._command(*command)
                command = []
        return True

    def _command(self, name: str, *words: str) -> int:
        match name, *words:
            case "echo", *_:
                write(f"{' '.join(words)}{self._end}\r\n")
            case "version", *_:
                write(BANNER.partition("\r\n")[0] + "\r\n\r\ngcc (Debian) 12.2.0\r\n")
            case "setenv", variable, *value:
                self._variables[variable] = " ".join(value)
            case "printenv", variable if variable in self._variables:
                write(f"{variable}={self._variables[variable]}\r\n")
            case "printenv", variable:
                write(f'## Error: "{variable}" not defined\r\n')
                return 1
            case "count", variable:  # as setexpr does
                self._variables[variable] = str(int(self._variables[variable]) + 1)
            case "sleep", seconds:
                return self._sleep(float(seconds))
            case "true", *_:
                pass
            case "false", *_:
                return 1
            case _:
                write(f"Unknown command '{name}' - try 'help'\r\n")
                return 1
        return 0

    def _sleep(self, seconds: float) -> int:
        """Sleep until Ctrl-C; what is typed meanwhile is lost."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._is_typed(left) and read_key() == "\x03":
                return 1
        return 0

    def _is_typed(self, seconds: float) -> bool:
        return bool(select.select([0], [], [], seconds)[0])


def read_key() -> str:
    """Return the next character that is typed; the end of the terminal is the end of the program."""
    return os.read(0, 1).decode("latin-1") or sys.exit()


def write(text: str) -> None:
    """Write to the terminal at once."""
    os.write(1, text.encode())


if __name__ == "__main__":
    UBoot(" " if "space" in sys.argv[1:] else "").serve()

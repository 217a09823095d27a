"""A program that behaves on its terminal as the shell of Zephyr does: editing, colours, log messages, `retval`."""

from __future__ import annotations

import os
import sys
import tty

PROMPT = "\x1b[1;32muart:~$ \x1b[m"
LOG = "[00:00:01.000,000] \x1b[0m<inf> app: tick\x1b[0m\r\n"
WIDTH = 80


class Shell:
    """The shell; `without` is a command that it lacks."""

    def __init__(self, without: str) -> None:
        self._without = without
        self._typed = ""
        self._value = 0

    def serve(self) -> None:
        """Read and answer until the terminal closes."""
        tty.setraw(0)
        write(f"*** Booting Zephyr OS build v4.2.0 ***\r\n\r\n\r\n{PROMPT}")
        while data := os.read(0, 1):
            self._receive(chr(data[0]))

    def _receive(self, character: str) -> None:
        if character in "\r\n":
            typed, self._typed = self._typed, ""
            write("\r\n")
            if typed:
                self._value = self._run(typed)
            write(PROMPT)
        elif character == "\x03":
            self._typed = ""
            write(f"\r\n{PROMPT}")
        elif character.isprintable() and character.isascii():
            self._typed += character
            write(character)
            if (len(self._typed) + len("uart:~$ ")) % WIDTH == 0:
                write("\r\n")  # the cursor goes to the next line

    def _run(self, typed: str) -> int:
        """Run a command, and return what its function returns."""
        name, _, rest = typed.partition(" ")
        if name == self._without or name not in {"retval", "kernel", "echo", "fail", "bare", "busy", "log"}:
            write(f"\x1b[1;31m{name}: command not found\r\n\x1b[m")
            return -8
        match name:
            case "retval":
                write(f"{self._value}\r\n")
            case "kernel":
                write("Zephyr version 4.2.0\r\n")
            case "echo":
                write(f"{rest}\r\n")
            case "fail":
                write("\x1b[1;31mno such device\r\n\x1b[m")
                return int(rest)
            case "bare":
                write("no newline")
            case "busy":
                while os.read(0, 1) != b"q":
                    pass
            case "log":  # what was logged meanwhile comes when the command has ended
                write(f"logged\r\n{PROMPT}\x1b[8D\x1b[J{LOG}")
        return 0


def write(text: str) -> None:
    """Write to the terminal at once."""
    os.write(1, text.encode())


if __name__ == "__main__":
    Shell(sys.argv[1] if len(sys.argv) > 1 else "").serve()

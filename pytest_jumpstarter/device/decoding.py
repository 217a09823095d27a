"""`Decoder`: the bytes of a console as text, and `Places`: which byte a character of this text came from."""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from typing import NamedTuple

_RUN_BYTES = 1 << 16

_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-?]*+[ -/]*+[@-~]"  # CSI: colours, the cursor
    rb"|[\]P^_X][^\x00-\x1f\x7f]*+(?:\x07|\x1b\\)"  # OSC and the like: titles, links
    rb"|[ -/]++[0-~]|[0-OQ-WYZ\\`-~])"  # two or three characters: character sets, reset
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*+[ -/]*+|[\]P^_X][^\x00-\x1f\x7f]*+\x1b?|[ -/]*+)\Z")
_LONGEST_ESCAPE = 4096


class Decoder:
    """
    Decodes bytes that come in pieces, as UTF-8; each byte that is none becomes U+FFFD.

    Args:
        keeps_escapes: Whether escape codes, such as colours, stay in the text.
    """

    def __init__(self, *, keeps_escapes: bool = True) -> None:
        self.keeps_escapes = keeps_escapes
        self._escape = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def pending(self) -> int:
        """The number of bytes that wait for the next ones."""
        return len(self._utf8.getstate()[0]) + len(self._escape)

    def decode(self, data: bytes) -> str:
        """Return the next text."""
        if self.keeps_escapes and not self._escape:
            return self._utf8.decode(data)
        data = self._escape + data
        self._escape = b""
        if not self.keeps_escapes and b"\x1b" in data:
            data = _ESCAPE.sub(b"", data)
            rest = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_ESCAPE))
            if rest is not None:
                data, self._escape = data[: rest.start()], data[rest.start() :]
        return self._utf8.decode(data)


class Byte(NamedTuple):
    """
    The place of a character in a recording.

    Attributes:
        begin: The position of a byte at or before its first one.
        characters: How many characters, it included, the bytes since `begin` have.
        end: The position of a byte after it; None if each of these characters has one byte.
        keeps_escapes: See `Decoder`.
    """

    begin: int
    characters: int
    end: int | None
    keeps_escapes: bool

    def position(self, data: bytes) -> int:
        """Return the position of the last byte of the character; `data` is from `begin` to `end`."""
        if self.end is None:
            return self.begin + self.characters - 1

        def count(length: int) -> int:
            return len(Decoder(keeps_escapes=self.keeps_escapes).decode(data[:length]))

        length = bisect_left(range(len(data) + 1), self.characters, key=count)
        return self.begin + max(0, min(length, len(data)) - 1)


class Places:
    """Notes which bytes the characters of a text came from; characters are counted from the first one ever."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, bool]] = []  # of characters: the first one, its byte, is one byte each
        self._characters = 0
        self._bytes = 0

    def add(self, text: str, begin: int, end: int) -> None:
        """Note that `text` came from the bytes between two positions."""
        is_plain = len(text) == end - begin and text.isascii()
        if self._runs and begin == self._bytes:
            _, first_byte, was_plain = self._runs[-1]
            is_one = is_plain == was_plain and (is_plain or end - first_byte < _RUN_BYTES)
        else:
            is_one = False
        if not is_one:
            self._runs.append((self._characters, begin, is_plain))
        self._characters += len(text)
        self._bytes = end

    def of(self, character: int, *, keeps_escapes: bool) -> Byte:
        """Return where a character came from."""
        index = max(0, bisect_left(self._runs, character + 1, key=lambda run: run[0]) - 1)
        first, begin, is_plain = self._runs[index]
        end = self._runs[index + 1][1] if index + 1 < len(self._runs) else self._bytes
        return Byte(begin, character - first + 1, None if is_plain else end, keeps_escapes)

    def forget(self, character: int) -> None:
        """Forget what is before a character."""
        index = bisect_left(self._runs, character + 1, key=lambda run: run[0]) - 1
        if index > 0:
            del self._runs[:index]

"""`Session`: a pexpect session that reads the recording of a serial port."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pexpect
from pexpect.spawnbase import SpawnBase

from pytest_jumpstarter.device.decoding import Byte, Decoder, Places
from pytest_jumpstarter.device.searching import MOST_CHARACTERS, ForeignSearch, Search, Text
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.device.port_reader import PortReader

DEFAULT_TIMEOUT = 30.0

CHUNK_BYTES = 1 << 16
"""What is read at once at first; more if there is more."""

_LARGEST_CHUNK = 1 << 20
_NOTHING = "nothing came in time"


class Session(SpawnBase):  # type: ignore[type-arg]  # at run time it is no generic class
    """
    A pexpect session on a serial port: `expect`, `send`, `logfile_read`, `timeout`, … are as pexpect documents them.

    There is no file descriptor. It reads what was recorded, from a position of its own, and only searches again what
    may have become a match.

    Args:
        reader: Reads the recording.
        timeout: The default of `expect`.
        keeps_escapes: Whether escape codes, such as colours, stay in the text.

    Attributes:
        last: Where the last character that matched came from; None before the first match.
        bytes: Decodes what is read.
    """

    def __init__(
        self, reader: PortReader, *, timeout: float | None = DEFAULT_TIMEOUT, keeps_escapes: bool = True
    ) -> None:
        self._text = Text()
        self._ahead: deque[str] = deque()  # was read, but not searched yet
        super().__init__(timeout=timeout, maxread=CHUNK_BYTES, encoding="utf-8", codec_errors="replace")
        self.closed = False
        self.last: Byte | None = None
        self._reader = reader
        self.bytes = Decoder(keeps_escapes=keeps_escapes)
        self._places = Places()
        self._begin = 0  # the number of characters before the text
        self._pexpect: Any = self  # for what its types do not declare

    @property
    def buffer(self) -> str:
        """What was read and has not matched."""
        return "".join([self._text.all(), *self._ahead])

    @buffer.setter
    def buffer(self, text: str) -> None:
        self._ahead.clear()
        self._text = Text()
        self._text.append(text)

    def expect_list(
        self, pattern_list: Any, timeout: float | None = -1, searchwindowsize: int | None = -1, async_: bool = False
    ) -> Any:
        """Wait until one of the compiled patterns matches; see pexpect."""
        return self._start(lambda window: Search(pattern_list, window=window), timeout, searchwindowsize, async_)

    def expect_exact(
        self, pattern_list: Any, timeout: float | None = -1, searchwindowsize: int | None = -1, async_: bool = False
    ) -> Any:
        """Wait until one of the plain strings comes; see pexpect."""
        patterns = pattern_list if isinstance(pattern_list, list | tuple) else [pattern_list]
        return self._start(lambda window: Search(patterns, window=window), timeout, searchwindowsize, async_)

    def expect_loop(self, searcher: Any, timeout: float | None = -1, searchwindowsize: int | None = -1) -> int:
        """Wait until a searcher of pexpect finds something; see pexpect."""
        return int(self._start(lambda window: ForeignSearch(searcher, window), timeout, searchwindowsize, False))

    def _start(
        self, make: Callable[[int | None], Search], timeout: float | None, window: int | None, is_async: bool
    ) -> Any:
        window = self.searchwindowsize if window == -1 else window
        seconds = self.timeout if timeout == -1 else timeout
        if is_async:
            return asyncio.to_thread(self.seek, make(window), seconds, window)
        return self.seek(make(window), seconds, window)

    def seek(self, search: Search, timeout: float | None, window: int | None = None) -> int:
        """
        Read and search until something matches, by a clock that tests cannot replace; return the index of it.

        What has come when it begins is searched, however short the timeout is.

        Args:
            search: What is searched for.
            timeout: Seconds; None waits until there is a match.
            window: How much of the text that earlier searches looked at is searched again; None for all.
        """
        deadline = None if timeout is None else real_time.monotonic() + timeout
        has_come = self._reader.end
        text, size = self._text, self.maxread
        text.searched = 0 if window is None else max(0, text.searched - window)
        try:
            while (found := search.find(text)) is None:
                left = None if deadline is None else deadline - real_time.monotonic()
                if left is not None and left < 0 and not self._ahead and self._reader.position >= has_come:
                    raise pexpect.TIMEOUT(_NOTHING)
                new = self._next(size, left if left is None else max(0.0, left))
                if text.is_wide:
                    text.narrow(search.needed(text))
                text.append(new)
                if self.maxread == CHUNK_BYTES and self._reader.position < self._reader.end:
                    size = min(2 * size, _LARGEST_CHUNK)
        except pexpect.EOF as exc:
            return self._end(search.eof_index, pexpect.EOF, exc)
        except pexpect.TIMEOUT as exc:
            return self._end(search.timeout_index, pexpect.TIMEOUT, exc)
        except BaseException:
            self.before, self.after = self._text.all(), None
            self.match = self.match_index = None
            raise
        return self._take(*found)

    def _next(self, size: int, timeout: float | None) -> str:
        """Return the next text that was not searched yet."""
        if not self._ahead:
            return self.read_nonblocking(size, timeout)
        text = self._ahead.popleft()
        if len(text) > size:
            self._ahead.appendleft(text[size:])
        return text[:size]

    def _take(self, index: int, begin: int, end: int, match: Any) -> int:
        """Set what a match sets; what is after it stays, a long rest in a way that costs little."""
        text, base = self._text.since(0)
        self.before, self.after = text[: begin - base], text[begin - base : end - base]
        self.match, self.match_index = match, index
        rest, self._text = end - base, Text()
        if len(text) - rest > CHUNK_BYTES:
            self._ahead.appendleft(text[rest + CHUNK_BYTES :])
        self._text.append(text[rest : rest + CHUNK_BYTES])
        self.last = self._places.of(self._begin + max(0, end - 1), keeps_escapes=self.bytes.keeps_escapes)
        self._forget(end)
        return index

    def _forget(self, characters: int) -> None:
        self._begin += characters
        self._places.forget(self._begin)

    def _end(self, index: int, what: type[pexpect.EOF | pexpect.TIMEOUT], exc: Exception) -> int:
        """Set what the end of the stream, or of the time, sets; raise it if it was not waited for."""
        self.before, self.after = self._text.all(), what
        if what is pexpect.EOF:
            self._forget(len(self._text))
            self._text = Text()
        if index < 0:
            self.match = self.match_index = None
            raise what(f"{exc}\n{self}") from None
        self.match, self.match_index = what, index
        return index

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """Return what can be read; wait for it for `timeout` seconds, or without an end."""
        seconds = self.timeout if timeout == -1 else timeout
        deadline = None if seconds is None else real_time.monotonic() + seconds
        while True:
            try:
                left = None if deadline is None else max(0.0, deadline - real_time.monotonic())
                data = self._reader.read(size, left)
            except TimeoutError:
                raise pexpect.TIMEOUT(_NOTHING) from None
            except EOFError:
                self.flag_eof = True
                raise pexpect.EOF("the stream has ended") from None
            if text := self._decoded(data):
                self._pexpect._log(text, "read")
                return text

    def rest_of_line(self, timeout: float) -> str:
        """Return what follows the match in its line; wait for the end of the line for `timeout` seconds."""
        if str(self.after).endswith("\n"):
            return ""
        deadline = real_time.monotonic() + timeout
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            while "\n" not in (rest := self.buffer) and len(rest) < CHUNK_BYTES:
                self._ahead.append(self.read_nonblocking(CHUNK_BYTES, max(0.0, deadline - real_time.monotonic())))
        return rest.partition("\n")[0]

    def _decoded(self, data: bytes) -> str:
        end = self._reader.position
        begin = end - len(data) - self.bytes.pending
        text = self.bytes.decode(data)
        self._places.add(text, begin, end - self.bytes.pending)
        return text

    def skip(self) -> str:
        """Drop all that has come and not matched, and return its end."""
        parts, end = deque([self.buffer]), self._reader.end
        while self._reader.position < end:
            try:
                parts.append(self.read_nonblocking(min(_LARGEST_CHUNK, end - self._reader.position), 0))
            except (pexpect.TIMEOUT, pexpect.EOF):
                break
        text = "".join(parts)
        self.buffer = ""
        self._forget(len(text))
        return text[-MOST_CHARACTERS:]

    def send(self, s: str | bytes) -> int:
        """Send text, or bytes as they are, and return the number of bytes."""
        self._pexpect._log(s if isinstance(s, str) else s.decode("utf-8", "replace"), "send")
        data = s.encode("utf-8", "replace") if isinstance(s, str) else s
        self._reader.send(data)
        return len(data)

    def sendline(self, s: str | bytes = "") -> int:
        """Send text and a line end, and return the number of bytes."""
        return self.send(s + self.linesep if isinstance(s, str) else s + self.linesep.encode())

    def write(self, s: str | bytes) -> None:
        """Send text."""
        self.send(s)

    def writelines(self, sequence: Sequence[str | bytes]) -> None:
        """Send several texts."""
        for each in sequence:
            self.send(each)

    def isalive(self) -> bool:
        """Return whether the stream is open."""
        return self._reader.is_open

    def close(self) -> None:
        """End reading and sending; a second call does nothing."""
        self.closed = True
        self._reader.close()

    def __str__(self) -> str:
        state = "open" if self.isalive() else "closed"
        return f"<Session: {state}; the end of what did not match: {self._text.all()[-100:]!r}>"

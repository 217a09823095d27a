"""
`Console`: a serial console in pexpect's words.

pexpect reads from one end of a socket pair in the test's thread; at the other end two tasks in the portal's loop copy
to and from the shared port (shared_port.py), which takes the board's output off the wire whether a test reads or not.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pexpect
from pexpect.expect import searcher_re, searcher_string
from pexpect.fdpexpect import fdspawn

from pytest_jumpstarter.errors import ConsoleFatal, DeviceUnreachable, JumpstarterError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.shared_port import PortStream, SharedPort

CHUNK_BYTES = 1 << 16
FATAL = (
    r"Kernel panic - not syncing",
    r"Internal error: Oops|\bOops: \w+ \[#\d+\]",
    r"\bHardFault\b|\*\*\* HARD FAULT \*\*\*",
    r"watchdog: BUG:|\b[Ww]atchdog (?:bite|expired|reset|timed out)\b|\bTG[01]WDT_SYS_RESET\b",
)
"""After these a board says nothing more that a test could wait for."""

DEFAULT_TIMEOUT = 30.0
_SHOWN_LINES = 20
_IS_FATAL = 1 << 30  # where pexpect has the index of a pattern
_OVERLAP = 256  # characters of what was searched before, in which a match may begin


class Console:
    """
    One console of a device, from the first use to the end of the lease.

    The words are pexpect's: `expect` and `expect_exact` return the index of the pattern that matched and leave the
    text in `before`, `after` and `match`. Text is UTF-8; bytes that are not are shown as U+FFFD.

    Args:
        begin: The position in the port's recording at which reading starts.

    Attributes:
        name: Words for this console in messages.
        fatal: Regular expressions that end a waiting `expect` at once where they match first; may be assigned, as
            `()` in a test that waits for a panic.
        spawn: The pexpect session itself, for what has no twin here (`logfile_read`, `linesep`, …).
    """

    def __init__(
        self, port: SharedPort, portal: BlockingPortal, *, begin: int, name: str, fatal: Sequence[str] | None = None
    ) -> None:
        self.name = name
        self.fatal = FATAL if fatal is None else tuple(fatal)
        self._port = port
        self._reasons: list[str] = []
        self._end, far = socket.socketpair()
        try:
            self._task: Future[None]
            self._task, _ = portal.start_task(_copy, port, begin, far, self._reasons.append)
        except Exception as exc:
            self._end.close()
            far.close()
            if isinstance(exc, JumpstarterError):
                raise
            raise DeviceUnreachable(f"console {name} cannot be opened: {_words(exc)}") from exc
        self.spawn: fdspawn[str] = fdspawn(
            self._end.fileno(), timeout=DEFAULT_TIMEOUT, encoding="utf-8", codec_errors="replace"
        )

    def expect(self, pattern: Any, timeout: float = DEFAULT_TIMEOUT) -> int:
        """
        Wait until the output matches a regular expression, or one of a list, and return its index.

        Args:
            pattern: A string or compiled expression, `pexpect.EOF`, `pexpect.TIMEOUT`, or a list of such.
            timeout: Seconds.

        Raises:
            pexpect.TIMEOUT: Nothing matched in time; the message shows what was seen.
            pexpect.EOF: The console closed.
            ConsoleFatal: The board said something of `fatal`, and would say no more.
        """
        __tracebackhide__ = True  # pytest shows the test's line, not ours
        return self._expect(searcher_re(self.spawn.compile_pattern_list(pattern)), pattern, timeout)

    def expect_exact(self, pattern: Any, timeout: float = DEFAULT_TIMEOUT) -> int:
        """Wait for a plain string, or one of a list, and return its index; else as `expect`."""
        __tracebackhide__ = True
        patterns = pattern if isinstance(pattern, (list, tuple)) else [pattern]
        return self._expect(searcher_string(patterns), pattern, timeout)

    def send(self, text: str) -> int:
        """Write `text` and return the number of bytes."""
        return int(self.spawn.send(text))

    def sendline(self, text: str = "") -> int:
        """Write `text` and the end of a line, and return the number of bytes."""
        return int(self.spawn.sendline(text))

    def sendcontrol(self, char: str) -> int:
        """Write the control character of `char`: `c` for Ctrl-C."""
        return self.send(chr(ord(char.upper()) - ord("@")))

    @property
    def before(self) -> str:
        """The text before the last match."""
        return str(self.spawn.before or "")

    @property
    def after(self) -> str:
        """The text that matched last."""
        return self.spawn.after if isinstance(self.spawn.after, str) else ""

    @property
    def match(self) -> Any:
        """The match object of the last `expect`, the string of the last `expect_exact`."""
        return self.spawn.match

    def discard(self) -> str:
        """Drop what came in and was not yet expected, and return it."""
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            for _ in range(1024):  # bounded, since a board may print faster than we read
                self.spawn.buffer += self.spawn.read_nonblocking(CHUNK_BYTES, timeout=0)
        dropped = str(self.spawn.buffer)
        self.spawn.buffer = ""
        return dropped

    @property
    def is_open(self) -> bool:
        """Whether the stream to the driver still stands; one that broke does not come back."""
        return not self._reasons and not self._task.done()

    def close(self) -> None:
        """Close the stream to the driver; a second call does nothing."""
        self._task.cancel()
        self._end.close()

    def __repr__(self) -> str:
        return f"<Console {self.name}>"

    def _expect(self, searcher: Any, pattern: Any, timeout: float) -> int:
        __tracebackhide__ = True
        try:
            index = int(self.spawn.expect_loop(cast("searcher_re[str]", _Watch(searcher, self.fatal)), timeout))
        except (pexpect.TIMEOUT, pexpect.EOF) as exc:
            happened = f"waited {timeout:g}s" if isinstance(exc, pexpect.TIMEOUT) else "closed while waiting"
            why = f" ({self._reasons[0]})" if self._reasons and self._reasons[0] else ""
            told = type(exc)(
                f"console {self.name} {happened} for {_shown(pattern)}{why}\nit said:\n{_tail(self.before)}"
            )
            if isinstance(told, pexpect.EOF):  # what broke since is to blame, however long ago
                told.since = self._port.opened  # type: ignore[attr-defined]  # read by the verdict
            raise told from None
        if index == _IS_FATAL:
            line = self.before.rpartition("\n")[2] + self.after + str(self.spawn.buffer).partition("\n")[0]
            raise ConsoleFatal(
                f"{self.name}: {_shown(pattern)} was waited for, and the board said {line.strip()!r}; "
                f"seen before that:\n{_tail(self.before)}"
            )
        return index


class _Watch:
    """
    Searches for what a test waits for, and for what would make it wait in vain; the first in the text counts.

    Args:
        searcher: pexpect's own.
    """

    def __init__(self, searcher: Any, fatal: Iterable[str]) -> None:
        self._searcher = searcher
        self._fatal = re.compile("|".join(f"(?:{each})" for each in fatal)) if fatal else None
        self.start = self.end = 0
        self.match: Any = None

    def search(self, buffer: str, freshlen: int, searchwindowsize: int | None = None) -> int:
        """Return the index of the pattern that matches, -1 if none does, or _IS_FATAL."""
        index = int(self._searcher.search(buffer, freshlen, searchwindowsize))
        found = self._fatal.search(buffer, max(0, len(buffer) - freshlen - _OVERLAP)) if self._fatal else None
        if found and (index < 0 or found.start() < self._searcher.start):
            self.start, self.end, self.match = found.start(), found.end(), found
            return _IS_FATAL
        if index >= 0:
            self.start, self.end, self.match = self._searcher.start, self._searcher.end, self._searcher.match
        return index

    def __getattr__(self, name: str) -> Any:
        return getattr(self._searcher, name)


async def _copy(
    port: SharedPort, begin: int, far: socket.socket, on_end: Callable[[str], None], *, task_status: TaskStatus[None]
) -> None:
    """Copy between the port and our end of the socket pair until either closes; report why the port ended."""
    from anyio import create_task_group

    far.setblocking(False)
    with far:
        stream = await port.open_stream(begin)
        task_status.started()
        async with create_task_group() as group:
            group.start_soon(_from_board, stream, far, on_end)
            await _to_board(far, stream)
            group.cancel_scope.cancel()


async def _from_board(stream: PortStream, far: socket.socket, on_end: Callable[[str], None]) -> None:
    from anyio import BrokenResourceError, EndOfStream

    loop = asyncio.get_running_loop()
    try:
        with suppress(EndOfStream, OSError):
            while True:
                await loop.sock_sendall(far, await stream.receive())
        on_end("")
    except BrokenResourceError as exc:
        on_end(_words(exc.__cause__ or exc))
    with suppress(OSError):
        far.shutdown(socket.SHUT_WR)


async def _to_board(far: socket.socket, stream: PortStream) -> None:
    from anyio import BrokenResourceError, ClosedResourceError

    loop = asyncio.get_running_loop()
    with suppress(BrokenResourceError, ClosedResourceError, OSError):
        while data := await loop.sock_recv(far, CHUNK_BYTES):
            await stream.send(data)


def _words(exc: BaseException) -> str:
    """Return what a gRPC error says, without the debug block that its text is."""
    details = getattr(exc, "details", None)
    return str(details()) if callable(details) else f"{type(exc).__name__}: {exc}"


def _shown(pattern: Any) -> str:
    return (
        " or ".join(map(_shown, pattern)) if isinstance(pattern, list) else repr(getattr(pattern, "pattern", pattern))
    )


def _tail(text: str) -> str:
    lines = text.splitlines()
    skipped = [f"  … {len(lines) - _SHOWN_LINES} lines before"] if len(lines) > _SHOWN_LINES else []
    return "\n".join([*skipped, *(f"  {line}" for line in lines[-_SHOWN_LINES:])]) or "  (nothing)"

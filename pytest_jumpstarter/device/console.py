"""
`Console`: a serial console that is used like a pexpect session.

pexpect reads from one end of a socket pair, in the test's thread. At the other end two tasks in the portal's loop copy
to and from the shared port (shared_port.py), which reads the board's output whether a test reads or not.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import pexpect
from pexpect.expect import searcher_re, searcher_string
from pexpect.fdpexpect import fdspawn

from pytest_jumpstarter.device.call_window import mark_call
from pytest_jumpstarter.errors import ConsoleFatal, DeviceUnreachable, JumpstarterError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.shared_port import PortStream, SharedPort

    _Searcher: TypeAlias = searcher_re[str] | searcher_string[str]

Exact: TypeAlias = str | type[pexpect.EOF | pexpect.TIMEOUT]
"""A pattern of `expect_exact`."""

Pattern: TypeAlias = Exact | re.Pattern[str]
"""A pattern of `expect`."""

_Pattern = TypeVar("_Pattern", bound=Pattern)

CHUNK_BYTES = 1 << 16
FATAL = (
    r"Kernel panic - not syncing",
    r"Internal error: Oops|\bOops: \w+ \[#\d+\]",
    r"\bHardFault\b|\*\*\* HARD FAULT \*\*\*",
    r"watchdog: BUG:|\b[Ww]atchdog (?:bite|expired|reset|timed out)\b|\bTG[01]WDT_SYS_RESET\b",
)
"""After these messages a board prints nothing more that a test could wait for."""

DEFAULT_TIMEOUT = 30.0
DISCARD_TIMEOUT = 1.0
"""Seconds after which `discard` stops reading, although the board goes on printing."""

_SHOWN_LINES = 20
_IS_FATAL = 1 << 30  # in place of the index of a pattern
_OVERLAP = 256  # characters that are searched again, because a match may begin in them


class Console:
    """
    One console of a device, from its first use to the end of the lease.

    The methods are those of pexpect: `expect` and `expect_exact` return the index of the pattern that matched and set
    `before`, `after` and `match`. Text is UTF-8; each byte that is not is shown as U+FFFD.

    Args:
        begin: The position in the port's recording at which reading starts.
        calls: Where it is noted since when the `expect` of a thread runs.

    Attributes:
        name: The name of this console in messages.
        fatal: Regular expressions; if one matches before the pattern of an `expect`, this ends at once. May be
            assigned, for example `()` in a test that waits for a panic.
        spawn: The pexpect session, for what is missing here (`logfile_read`, `linesep`, …).
    """

    def __init__(
        self,
        port: SharedPort,
        portal: BlockingPortal,
        *,
        begin: int,
        name: str,
        fatal: Sequence[str] | None = None,
        calls: dict[int, float] | None = None,
    ) -> None:
        self.name = name
        self.fatal = FATAL if fatal is None else tuple(fatal)
        self._port = port
        self._reasons: list[str] = []
        self._calls = {} if calls is None else calls
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

    def expect(self, pattern: Pattern | Sequence[Pattern], timeout: float = DEFAULT_TIMEOUT) -> int:
        """
        Wait until the output matches a regular expression, or one of a list, and return its index.

        Args:
            pattern: A string or compiled expression, `pexpect.EOF`, `pexpect.TIMEOUT`, or a list of these.
            timeout: Seconds.

        Raises:
            pexpect.TIMEOUT: Nothing matched in time; the message quotes the output.
            pexpect.EOF: The console closed.
            ConsoleFatal: The board printed a message of `fatal` and will print no more.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        patterns = [compiled for one in _listed(pattern) for compiled in self.spawn.compile_pattern_list(one)]
        return self._expect(searcher_re(patterns), pattern, timeout)

    def expect_exact(self, pattern: Exact | Sequence[Exact], timeout: float = DEFAULT_TIMEOUT) -> int:
        """Wait for a plain string, or one of a list, and return its index; otherwise as `expect`."""
        __tracebackhide__ = True
        return self._expect(searcher_string(_listed(pattern)), pattern, timeout)

    def send(self, text: str) -> int:
        """Send `text` and return the number of bytes."""
        return int(self.spawn.send(text))

    def sendline(self, text: str = "") -> int:
        """Send `text` and a line end, and return the number of bytes."""
        return int(self.spawn.sendline(text))

    def sendcontrol(self, char: str) -> int:
        """Send the control character of `char`: `c` for Ctrl-C."""
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
    def match(self) -> Any:  # one of several types, of which the test knows which
        """The match object of the last `expect`, or the string of the last `expect_exact`."""
        return self.spawn.match

    def discard(self) -> str:
        """Drop the output that was not yet matched, and return it."""
        with suppress(pexpect.TIMEOUT, pexpect.EOF):
            deadline = time.monotonic() + DISCARD_TIMEOUT
            while time.monotonic() < deadline:  # not for ever: a board may print faster than we read
                self.spawn.buffer += self.spawn.read_nonblocking(CHUNK_BYTES, timeout=0)
        dropped = str(self.spawn.buffer)
        self.spawn.buffer = ""
        return dropped

    @property
    def is_open(self) -> bool:
        """Whether the stream to the driver is open; one that broke is never open again."""
        return not self._reasons and not self._task.done()

    def close(self) -> None:
        """Close the stream to the driver; a second call does nothing."""
        self._task.cancel()
        self._end.close()

    def __repr__(self) -> str:
        return f"<Console {self.name}>"

    def _expect(self, searcher: _Searcher, pattern: Pattern | Sequence[Pattern], timeout: float) -> int:
        __tracebackhide__ = True
        began = time.monotonic()
        self._calls[thread := threading.get_ident()] = began
        try:
            watch = cast("searcher_re[str]", _Watch(searcher, self.fatal))  # it has all that pexpect uses of one
            index = int(self.spawn.expect_loop(watch, timeout))
        except (pexpect.TIMEOUT, pexpect.EOF) as exc:
            happened = f"waited {timeout:g}s" if isinstance(exc, pexpect.TIMEOUT) else "closed while waiting"
            why = f" ({self._reasons[0]})" if self._reasons and self._reasons[0] else ""
            told = type(exc)(
                f"console {self.name} {happened} for {_shown(pattern)}{why}\nit said:\n{_tail(self.before)}"
            )
            # what broke since a console that ended was opened is to blame, however long ago
            mark_call(told, self._port.opened if isinstance(told, pexpect.EOF) else began)
            raise told from None
        finally:
            self._calls.pop(thread, None)
        if index == _IS_FATAL:
            line = self.before.rpartition("\n")[2] + self.after + str(self.spawn.buffer).partition("\n")[0]
            raise ConsoleFatal(
                f"{self.name}: {_shown(pattern)} was waited for, and the board said {line.strip()!r}; "
                f"seen before that:\n{_tail(self.before)}"
            )
        return index


class _Watch:
    """
    Searches for the pattern of a test and for fatal messages; the first match in the text counts.

    Args:
        searcher: pexpect's searcher for the pattern of the test.
        fatal: Regular expressions for fatal messages.
    """

    def __init__(self, searcher: _Searcher, fatal: Iterable[str]) -> None:
        self._searcher = searcher
        self._fatal = re.compile("|".join(f"(?:{pattern})" for pattern in fatal)) if fatal else None
        self.start = self.end = 0
        self.match: re.Match[str] | str | None = None

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

    def __getattr__(self, name: str) -> object:
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
    """Return the text of an error; of a gRPC error its details, without the debug output."""
    if isinstance(exc, TimeoutError):
        return str(exc)
    details = getattr(exc, "details", None)
    return str(details()) if callable(details) else f"{type(exc).__name__}: {exc}"


def _listed(pattern: _Pattern | Sequence[_Pattern]) -> list[_Pattern]:
    """Return `pattern` as a list, which it may be already."""
    return list(pattern) if isinstance(pattern, Sequence) and not isinstance(pattern, str | bytes) else [pattern]


def _shown(pattern: Pattern | Sequence[Pattern]) -> str:
    return " or ".join(repr(getattr(one, "pattern", one)) for one in _listed(pattern))


def _tail(text: str) -> str:
    lines = text.splitlines()
    skipped = [f"  … {len(lines) - _SHOWN_LINES} lines before"] if len(lines) > _SHOWN_LINES else []
    return "\n".join([*skipped, *(f"  {line}" for line in lines[-_SHOWN_LINES:])]) or "  (nothing)"

"""
`Console`: a serial console that is used like a pexpect session.

The shared port (shared_port.py) reads the board's output whether a test reads or not. The console's session
(session.py) reads what it recorded, in the test's thread.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pexpect
from anyio import EndOfStream

from pytest_jumpstarter.device.board_results import READERS, BoardFailures, BoardResult
from pytest_jumpstarter.device.call_window import mark_call
from pytest_jumpstarter.device.console_defaults import FATAL, ConsoleDefaults
from pytest_jumpstarter.device.quoted import SHOWN_LINE, shortened, tail, words_of
from pytest_jumpstarter.device.searching import Search, compiled
from pytest_jumpstarter.device.session import Session
from pytest_jumpstarter.device.shell_language import without_escapes
from pytest_jumpstarter.errors import ConsoleFatal, DeviceUnreachable, JumpstarterError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import first_characters, last_characters, safe

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.shared_port import SharedPort

Exact: TypeAlias = str | type[pexpect.EOF | pexpect.TIMEOUT]
"""A pattern of `expect_exact`."""

Pattern: TypeAlias = Exact | re.Pattern[str]
"""A pattern of `expect`."""

Patterns: TypeAlias = Pattern | Sequence[Pattern]
Timeout: TypeAlias = float | None
Regexes: TypeAlias = str | Sequence[str]

_Pattern = TypeVar("_Pattern", bound=Pattern)
_Result = TypeVar("_Result")

_REST_OF_LINE = 0.5
"""Seconds to wait for the rest of a line that ends an `expect`."""

_LINE = re.compile(r"[^\n]*\n")


class Console:
    """
    One console of a device, from its first use to the end of the lease.

    The methods are those of pexpect: `expect` and `expect_exact` return the index of the pattern that matched and set
    `before`, `after` and `match`. Text is UTF-8; each byte that is not is shown as U+FFFD.

    Args:
        begin: The position in the port's recording at which reading starts.
        defaults: Its settings at first.
        calls: Where it is noted since when the `expect` of a thread runs.

    Attributes:
        name: The name of this console in messages.
        fatal: Regular expressions; if one matches before the pattern of an `expect`, this ends at once. May be
            assigned, for example `()` in a test that waits for a panic.
        results: What `expect_results` has read; whoever reports it takes it away.
        on_result: Called with each of them; None if nobody wants it.
        spawn: The pexpect session, for what is missing here (`logfile_read`, `linesep`, …).
    """

    def __init__(
        self,
        port: SharedPort,
        portal: BlockingPortal,
        *,
        begin: int,
        name: str,
        defaults: ConsoleDefaults | None = None,
        calls: dict[int, float] | None = None,
    ) -> None:
        defaults = defaults or ConsoleDefaults()
        self.name = name
        self.fatal: Sequence[str] = FATAL if defaults.fatal is None else defaults.fatal
        self.results: list[BoardResult] = []
        self.on_result: Callable[[BoardResult], None] | None = None
        self._port = port
        self._portal = portal
        self._calls = {} if calls is None else calls
        self._refuse_if_lent()
        self._reader = self._in_loop(port.open_reader, begin)
        self._opened = port.opened
        self.spawn = Session(self._reader, timeout=defaults.timeout, keeps_escapes=defaults.keeps_escapes)

    def expect(
        self, pattern: Patterns, timeout: Timeout = -1, searchwindowsize: int | None = -1, *, not_matching: Regexes = ()
    ) -> int:
        """
        Wait until the output matches a regular expression, or one of a list, and return its index.

        Args:
            pattern: A string or compiled expression, `pexpect.EOF`, `pexpect.TIMEOUT`, or a list of these.
            timeout: Seconds; -1 for `self.timeout`, None to wait without an end.
            searchwindowsize: How many characters that were searched before are searched again; -1 for
                `spawn.searchwindowsize`, None for all.
            not_matching: Regular expressions that must not match before the pattern does.

        Raises:
            pexpect.TIMEOUT: Nothing matched in time; the message quotes the output.
            pexpect.EOF: The console closed.
            ConsoleFatal: The board printed a message of `fatal` and will print no more.
            AssertionError: It printed what `not_matching` says.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        self._resume(pattern)
        return self._expect(self._compiled(pattern), _shown(pattern), timeout, searchwindowsize, not_matching)

    def expect_exact(
        self,
        pattern: Exact | Sequence[Exact],
        timeout: Timeout = -1,
        searchwindowsize: int | None = -1,
        *,
        not_matching: Regexes = (),
    ) -> int:
        """Wait for a plain string, or one of a list, and return its index; otherwise as `expect`."""
        __tracebackhide__ = True
        self._resume(pattern)
        return self._expect(_listed(pattern), _shown(pattern), timeout, searchwindowsize, not_matching)

    def look(self, patterns: Sequence[Pattern], timeout: float, searchwindowsize: int) -> int:
        """
        Wait as `expect` does, in the midst of an exchange with the board.

        If the exporter has closed the port since the exchange began, this raises pexpect.EOF: on a port that is opened
        again, nobody answers.
        """
        __tracebackhide__ = True
        return self._expect(self._compiled(patterns), _shown(patterns), timeout, searchwindowsize, ())

    def expect_all(
        self, patterns: Sequence[Pattern], timeout: Timeout = -1, *, not_matching: Regexes = ()
    ) -> list[Any]:
        """
        Wait until each of several regular expressions has matched, in any order, and return their matches.

        A pattern is searched for in what comes after the match of another one.

        Args:
            patterns: As for `expect`.
            timeout: Seconds for all.
            not_matching: As for `expect`.

        Raises:
            pexpect.TIMEOUT: The message names those that did not match.
            pexpect.EOF, ConsoleFatal, AssertionError: See `expect`.
        """
        __tracebackhide__ = True
        self._resume(patterns)
        whole, deadline = self._deadline(timeout)
        left, found = list(range(len(patterns))), [None] * len(patterns)
        while left:
            open_ = [patterns[each] for each in left]
            index = self._expect(self._compiled(open_), _shown(open_), _left(deadline), -1, not_matching, whole=whole)
            found[left.pop(index)] = self.match
        return found

    def expect_results(self, form: str, timeout: float | None = -1) -> list[BoardResult]:
        """
        Read the results of tests that run on the board, until the last one, and return them.

        Args:
            form: `unity`, `ztest` (of Zephyr) or `ktap` (of the kernel; also TAP).
            timeout: Seconds for all.

        Raises:
            BoardFailures: A test on the board failed or did not end, or none ran.
            pexpect.TIMEOUT: The last line did not come in time.
            pexpect.EOF, ConsoleFatal: See `expect`.
        """
        __tracebackhide__ = True
        if form not in READERS:
            raise ValueError(f"{form!r} is not a form of results; choose from {', '.join(READERS)}")
        self._resume()
        reader, (whole, deadline) = READERS[form](), self._deadline(timeout)
        try:
            while not reader.is_over:
                self._expect([_LINE], f"the end of the {form} results", _left(deadline), None, (), whole=whole)
                reader.read(line := without_escapes(self.after).rstrip())
                if any(pattern.search(line) for pattern in compiled(tuple(self.fatal))):
                    raise ConsoleFatal(self._said_instead(f"the end of the {form} results"))
        finally:
            if not reader.is_over:
                reader.give_up()
            self._report(reader.results)
        failed = [f"  {result}" for result in reader.results if result.outcome == "failed"]
        if failed or not reader.results:
            told = "no test ran on the board" if not failed else f"{len(failed)} of {len(reader.results)} tests failed"
            raise BoardFailures("\n".join([f"{self.name}: {told}", *failed]), reader.results)
        return reader.results

    def send(self, text: str | bytes) -> int:
        """Send `text`, or bytes as they are, and return the number of bytes."""
        self._resume()
        return self.spawn.send(text)

    def sendline(self, text: str | bytes = "") -> int:
        """Send `text` and a line end, and return the number of bytes."""
        self._resume()
        return self.spawn.sendline(text)

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

    @property
    def time(self) -> float:
        """
        The Unix time at which the last character of the last match arrived, to some milliseconds.

        It is the time of arrival in this process, however late the test looked.

        Raises:
            RuntimeError: Nothing has matched yet.
        """
        if (byte := self.spawn.last) is None:
            raise RuntimeError(f"console {self.name}: nothing has matched yet, so nothing has arrived")
        recording = self._port.recording
        if byte.begin < recording.start:  # it is not kept any more
            return recording.time_of(byte.begin)
        data = b"" if byte.end is None else recording.between(byte.begin, byte.end)
        return recording.time_of(byte.position(data))

    @property
    def timeout(self) -> float | None:
        """The timeout of `expect` if it is given none; `spawn.timeout` is the same."""
        return self.spawn.timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self.spawn.timeout = timeout

    @property
    def keeps_escapes(self) -> bool:
        """Whether escape codes, such as colours, stay in the text; may be assigned, for what is read from then on."""
        return self.spawn.bytes.keeps_escapes

    @keeps_escapes.setter
    def keeps_escapes(self, keeps_escapes: bool) -> None:
        self.spawn.bytes.keeps_escapes = keeps_escapes

    def discard(self) -> str:
        """Drop the output that was not yet matched, and return it."""
        return self.spawn.skip()

    @property
    def is_open(self) -> bool:
        """Whether the stream to the driver is open; one that broke is never open again."""
        return self._reader.is_open

    def release(self) -> None:
        """Close the port, so that others on the exporter can open it; the next `send` or `expect` opens it again."""
        self._portal.call(self._port.park, "given back by console.release")

    def close(self) -> None:
        """Close the stream to the driver, and the port if nobody else uses it; a second call does nothing."""
        self.spawn.close()
        with suppress(RuntimeError):  # the loop has ended
            self._portal.call(self._port.leave, self._reader.stream)

    def __repr__(self) -> str:
        return f"<Console {self.name}>"

    def _resume(self, wanted: Patterns = ()) -> None:
        """Open the port again if it was given back, or if the exporter has closed it, unless its end is wanted."""
        if self.spawn.closed or not (self._port.is_parked or self._port.is_lent or self._reader.trouble is not None):
            return
        if pexpect.EOF in _listed(wanted):
            return
        self._refuse_if_lent()
        if self._port.is_parked:
            self._in_loop(self._port.open)
        elif isinstance(self._reader.trouble, EndOfStream):
            self._in_loop(self._reader.reopen)
            self._opened = self._port.opened

    def _refuse_if_lent(self) -> None:
        if self._port.is_lent:
            raise RuntimeError(
                f"console {self.name} was used while its port is free for others (port_free, or a flash)"
            )

    def _in_loop(self, function: Callable[..., Awaitable[_Result]], *args: object) -> _Result:
        """Return the result of what opens the port."""
        try:
            return self._portal.call(function, *args)
        except Exception as exc:
            if isinstance(exc, JumpstarterError) or self._port.is_lent:
                raise
            raise DeviceUnreachable(f"console {self.name} cannot be opened: {words_of(exc)}") from exc

    def _report(self, results: list[BoardResult]) -> None:
        self.results += results
        if self.on_result is not None:
            for each in results:
                self.on_result(each)

    def _deadline(self, timeout: Timeout) -> tuple[float | None, float | None]:
        """Return the seconds that several waits may take together, and when they are over."""
        seconds = self.timeout if timeout == -1 else timeout
        return seconds, None if seconds is None else real_time.monotonic() + seconds

    def _compiled(self, pattern: Patterns) -> list[Any]:
        return [each for one in _listed(pattern) for each in self.spawn.compile_pattern_list(one)]

    def _expect(
        self,
        patterns: Sequence[Any],
        wanted: str,
        timeout: Timeout,
        window: int | None,
        not_matching: Regexes,
        *,
        whole: float | None = None,
    ) -> int:
        """Wait for patterns; `whole` is the timeout of all waits that this one is a part of."""
        __tracebackhide__ = True
        timeout = self.timeout if timeout == -1 else timeout
        window = self.spawn.searchwindowsize if window == -1 else window
        forbidden = tuple(_listed(not_matching))
        search = Search(patterns, [*compiled(tuple(self.fatal)), *compiled(forbidden)], window=window)
        began = real_time.monotonic()
        self._calls[thread := threading.get_ident()] = began
        try:
            index = self.spawn.seek(search, timeout, window)
        except (pexpect.TIMEOUT, pexpect.EOF) as exc:
            raise self._told(exc, wanted, timeout if whole is None else whole, began) from None
        finally:
            self._calls.pop(thread, None)
        if index >= len(patterns) + len(self.fatal):
            raise AssertionError(self._said_instead(wanted, f" without {' or '.join(map(repr, forbidden))}"))
        if index >= len(patterns):
            raise ConsoleFatal(self._said_instead(wanted))
        return index

    def _told(
        self, exc: pexpect.TIMEOUT | pexpect.EOF, wanted: str, timeout: float | None, began: float
    ) -> pexpect.TIMEOUT | pexpect.EOF:
        """Return the error of pexpect with a message that quotes the output."""
        happened = f"waited {timeout:g}s" if isinstance(exc, pexpect.TIMEOUT) else "closed while waiting"
        why = self._why_closed()
        told = type(exc)(f"console {self.name} {happened} for {wanted}{why}\nit said:\n{tail(self.before)}")
        # what broke since a console that ended was opened is to blame, however long ago
        mark_call(told, self._opened if isinstance(told, pexpect.EOF) else began)
        return told

    def _why_closed(self) -> str:
        """Return why the stream broke, in brackets; an empty text if it did not break."""
        trouble = self._reader.trouble
        return f" ({safe(words_of(trouble.__cause__))})" if trouble is not None and trouble.__cause__ else ""

    def _said_instead(self, wanted: str, otherwise: str = "") -> str:
        rest = first_characters(self.spawn.rest_of_line(_REST_OF_LINE), SHOWN_LINE)
        line = f"{last_characters(self.before.rpartition(chr(10))[2], SHOWN_LINE)}{self.after}{rest}"
        return (
            f"{self.name}: {wanted} was waited for{otherwise}, and the board said {shortened(line.strip())!r}; "
            f"seen before that:\n{tail(self.before)}"
        )


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - real_time.monotonic())


def _listed(pattern: _Pattern | Sequence[_Pattern]) -> list[_Pattern]:
    """Return `pattern` as a list, which it may be already."""
    return list(pattern) if isinstance(pattern, Sequence) and not isinstance(pattern, str | bytes) else [pattern]


def _shown(pattern: Pattern | Sequence[Pattern]) -> str:
    return " or ".join(repr(getattr(one, "pattern", one)) for one in _listed(pattern))

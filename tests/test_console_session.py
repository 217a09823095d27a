"""The console's pexpect session: reads the recording in the thread of the test, and means what pexpect means."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pexpect
import pytest
from anyio import BrokenResourceError, EndOfStream, create_memory_object_stream
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.streams.stapled import StapledObjectStream
from runs import until

from pytest_jumpstarter.device.board_results import BoardFailures
from pytest_jumpstarter.device.console import Console
from pytest_jumpstarter.device.shared_port import SharedPort
from pytest_jumpstarter.errors import ConsoleFatal
from pytest_jumpstarter.host import real_time

TIMEOUT = 20


class Board:
    """The driver client of a console whose board says what the test tells it to."""

    def __init__(self, portal: BlockingPortal) -> None:
        self.portal = portal
        self.heard = b""
        self._said: Any = None

    def say(self, data: bytes | Exception) -> None:
        """Send output; an error breaks the stream."""
        self.portal.call(self._said.send, data)

    @asynccontextmanager
    async def stream_async(self, method: str) -> AsyncIterator[Any]:
        """Open the console."""
        assert method == "connect"
        self._said, output = create_memory_object_stream[Any](100)
        board = self

        class Stream(StapledObjectStream[Any]):
            async def receive(self) -> bytes:
                data: bytes | Exception = await output.receive()
                if isinstance(data, Exception):
                    raise data
                return data

            async def send(self, item: bytes) -> None:
                board.heard += item

        async with Stream(self._said, output) as stream:
            yield stream


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """Return a running loop."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def board(portal: BlockingPortal) -> Board:
    """Return a board."""
    return Board(portal)


@pytest.fixture
def port(board: Board) -> Iterator[SharedPort]:
    """Return its serial port."""
    port = SharedPort(board, "console")  # type: ignore[arg-type]
    yield port
    port.close(board.portal)


@pytest.fixture
def console(port: SharedPort, board: Board) -> Iterator[Console]:
    """Return its console."""
    console = Console(port, board.portal, begin=0, name="console")
    yield console
    console.close()


def say(console: Console, board: Board, data: bytes) -> None:
    """Let the board say something, and wait until it is recorded."""
    before = console._port.recording.end
    board.say(data)
    until(lambda: console._port.recording.end == before + len(data), timeout=TIMEOUT)


def test_timeouts_are_those_of_pexpect(console: Console, board: Board) -> None:
    """-1 is the default, which `spawn.timeout` sets; None waits without an end; what has come is found with 0."""
    console.spawn.timeout = 0.2
    for wait in (console.expect, console.expect_exact):
        with pytest.raises(pexpect.TIMEOUT, match=r"waited 0\.2s for 'never'"):
            wait("never")
        with pytest.raises(pexpect.TIMEOUT, match=r"waited 0\.2s for 'never'"):
            wait("never", timeout=-1)
    threading.Timer(0.3, board.say, [b"at last"]).start()
    assert console.expect("at last", timeout=None) == 0
    say(console, board, b"x" * 500_000 + b"login: ")
    assert console.expect("login: ", timeout=0) == 0


def test_what_a_session_of_pexpect_has(console: Console, board: Board) -> None:
    """`console.spawn` reads lines and sizes, logs, sends, expects and is asked for what is left, as pexpect's do."""
    spawn: Any = console.spawn
    log = io.StringIO()
    spawn.logfile_read = log
    say(console, board, b"one\r\ntwo\r\nthree four")
    assert spawn.readline() == "one\r\n"
    assert spawn.read(3) == "two"
    assert spawn.expect_exact(["three", pexpect.TIMEOUT], timeout=TIMEOUT) == 0
    assert (spawn.before, spawn.after, spawn.buffer) == ("\r\n", "three", " four")
    spawn.buffer = "other " + spawn.buffer
    assert spawn.expect(["never", r"o(\w+)"], timeout=TIMEOUT) == 1
    assert spawn.match[1] == "ther"
    with pytest.raises(pexpect.TIMEOUT, match="the end of what did not match: '  four'"):
        spawn.expect("never", timeout=0)
    assert (spawn.before, spawn.after) == ("  four", pexpect.TIMEOUT)
    searcher = pexpect.expect.searcher_re([re.compile("f(.)u")])
    assert spawn.expect_loop(searcher, TIMEOUT) == 0
    assert spawn.match[1] == "o"
    assert asyncio.run(spawn.expect(["never", "r"], async_=True, timeout=TIMEOUT)) == 1
    assert spawn.sendline("größe") == len("größe\n".encode())
    spawn.write("w")
    spawn.writelines(["x", "y"])
    assert (spawn.send(b"\xff\x00"), console.sendcontrol("c")) == (2, 1)
    until(lambda: board.heard == "größe\nwxy".encode() + b"\xff\x00\x03", timeout=TIMEOUT)
    assert log.getvalue() == "one\r\ntwo\r\nthree four"
    assert spawn.isalive()


def test_characters_and_anchors(console: Console, board: Board) -> None:
    """A character in pieces is one; what is no text is U+FFFD; `^` and lookbehind see nothing before the last match."""
    say(console, board, "Grü".encode()[:3])
    assert console.expect(["ü", pexpect.TIMEOUT], timeout=0) == 1
    say(console, board, "ü".encode()[1:] + b"\xff!")
    console.expect("Grü\N{REPLACEMENT CHARACTER}", timeout=TIMEOUT)
    assert console.expect(["(?<=\N{REPLACEMENT CHARACTER})!", "^!"], timeout=TIMEOUT) == 1


def test_long_backlog(console: Console, board: Board, port: SharedPort) -> None:
    """Many matches in a long backlog each have their own text before them, and nothing is lost or doubled."""
    lines = [f"{number:06} a line of the kernel" for number in range(40_000)]
    port.recording.append("\n".join([*lines, "end"]).encode())
    console.expect_exact("000000 ", timeout=TIMEOUT)
    for number in range(400, 40_000, 400):
        console.expect_exact(f"\n{number:06} ", timeout=TIMEOUT)
        between = [line if line != lines[number - 400] else line[7:] for line in lines[number - 400 : number]]
        assert console.before == "\n".join(between)
    assert console.expect(r"(\d+) [^\n]*\nend$", timeout=TIMEOUT) == 0
    assert console.match[1] == "039999"
    assert board.heard == b""


def test_search_window(console: Console, board: Board) -> None:
    """`searchwindowsize` bounds how much of what was searched is searched again, never what is new."""
    say(console, board, b"first " + b"x" * 1000)
    assert console.expect(["never", pexpect.TIMEOUT], timeout=0) == 1
    say(console, board, b"second")
    assert console.expect(["first", pexpect.TIMEOUT], timeout=0, searchwindowsize=100) == 1
    console.spawn.searchwindowsize = 100
    say(console, board, b" third " + b"y" * 200)
    assert console.expect_exact(["third", pexpect.TIMEOUT], timeout=0) == 0
    assert console.before.endswith("xsecond ")


def test_a_fatal_message_in_pieces(console: Console, board: Board) -> None:
    """A fatal message counts if it comes before the pattern of the test, however it is cut."""
    for piece in (b"x" * 1000, b" Kernel pa", b"nic - not syn", b"cing: VFS\nlogin: "):
        say(console, board, piece)
    with pytest.raises(ConsoleFatal, match="Kernel panic - not syncing: VFS"):
        console.expect("login: ", timeout=TIMEOUT)
    console.expect("login: ", timeout=TIMEOUT)
    say(console, board, b"login: again, Kernel panic - not syncing")
    console.expect("again", timeout=TIMEOUT)


@pytest.mark.parametrize("not_matching", [(), "not syncing"], ids=["fatal", "not_matching"])
def test_the_rest_of_a_fatal_line_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, console: Console, board: Board, not_matching: str
) -> None:
    """A message that comes in pieces is told to the end of its line, and the next wait gets what follows it."""
    monkeypatch.setattr(f"{Console.__module__}._REST_OF_LINE", TIMEOUT)
    console.fatal = () if not_matching else console.fatal
    say(console, board, b"x\r\nKernel panic - not syncing: sysrq trigg")
    threading.Timer(0.1, board.say, [b"ered crash\r\nRebooting"]).start()
    with pytest.raises(AssertionError, match="'Kernel panic - not syncing: sysrq triggered crash'"):
        console.expect("login: ", timeout=TIMEOUT, not_matching=not_matching)
    console.expect("crash\r\nRebooting", timeout=TIMEOUT)
    monkeypatch.setattr(f"{Console.__module__}._REST_OF_LINE", 0.1)
    say(console, board, b"Kernel panic - not syncing: without an end")
    with pytest.raises(AssertionError, match="'Kernel panic - not syncing: without an end'"):
        console.expect("login: ", timeout=TIMEOUT, not_matching=not_matching)


def test_end_and_reopening(console: Console, board: Board, port: SharedPort, portal: BlockingPortal) -> None:
    """A stream that broke says why, gives all that came, takes nothing, and is not open again when the port is."""
    board.say(b"last words")
    broken = BrokenResourceError()
    broken.__cause__ = OSError("the cable is out")
    board.say(broken)
    until(lambda: not console.is_open, timeout=TIMEOUT)
    portal.call(port.open)
    board.say(b"of another opening")
    until(lambda: port.recording.end > len(b"last words"), timeout=TIMEOUT)
    assert console.expect("last", timeout=TIMEOUT) == 0
    with pytest.raises(pexpect.EOF, match=r"closed while waiting for 'never' \(OSError: the cable is out\)") as caught:
        console.expect("never", timeout=TIMEOUT)
    assert "another" not in str(caught.value)
    assert not console.is_open
    with pytest.raises(BrokenPipeError):
        console.sendline("x")
    assert console.expect([pexpect.EOF], timeout=TIMEOUT) == 0


def test_end_without_trouble(console: Console, board: Board) -> None:
    """A stream that ends in order, or that the test closes while it waits, is the end of the console."""
    threading.Timer(0.2, board.say, [EndOfStream()]).start()
    assert console.expect(["never", pexpect.EOF], timeout=TIMEOUT) == 1


@pytest.mark.parametrize(
    "exchange",
    [
        lambda console: console.expect_all(["1", "never"], timeout=TIMEOUT),
        lambda console: console.expect_results("ktap", timeout=TIMEOUT),
        lambda console: (console.look([re.compile("1")], TIMEOUT, 100), console.look(["never"], TIMEOUT, 100)),
    ],
    ids=["all", "results", "look"],
)
def test_end_between_two_waits(
    console: Console, board: Board, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Console], Any]
) -> None:
    """If the exporter closes the port amid an exchange, that is its end: the port is not opened again for the rest."""
    wait = console._expect

    def wait_then_end(*args: Any, **kwargs: Any) -> int:
        index = wait(*args, **kwargs)
        board.say(EndOfStream())
        until(lambda: not console.is_open, timeout=TIMEOUT)
        return index

    monkeypatch.setattr(console, "_expect", wait_then_end)
    say(console, board, b"1..2\n")
    with pytest.raises(pexpect.EOF, match="closed while waiting"):
        exchange(console)
    assert not console.is_open


def test_closing_wakes_who_waits(console: Console) -> None:
    """A thread that waits without an end stops when another one closes the console."""
    threading.Timer(0.2, console.close).start()
    with pytest.raises(pexpect.EOF):
        console.expect("never", timeout=None)


def test_an_interrupt_leaves_all_usable(console: Console, board: Board) -> None:
    """An error that a signal handler raises ends a wait; what had come is there for the next `expect`."""

    def raise_it(number: int, frame: FrameType | None) -> None:
        raise InterruptedError("by the signal")

    before = signal.signal(signal.SIGUSR1, raise_it)
    try:
        for _ in range(20):
            say(console, board, b"said ")
            timer = threading.Timer(0.02, signal.pthread_kill, [threading.main_thread().ident or 0, signal.SIGUSR1])
            timer.start()
            with pytest.raises(InterruptedError):
                console.expect("never", timeout=TIMEOUT)
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert console.expect(r"(said ){20}$", timeout=TIMEOUT) == 0


def test_a_board_that_takes_nothing(console: Console, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends faster than the board takes waits, and does not fill the memory; the end of the stream frees it."""
    gate = threading.Event()

    async def write(data: bytes) -> None:
        await asyncio.to_thread(gate.wait, TIMEOUT)
        board.heard += data

    monkeypatch.setattr(console._port, "write", write)
    sent: list[int] = []

    def send() -> None:
        sent.extend(console.send("x" * 10_000) for _ in range(100))

    thread = threading.Thread(target=send)
    thread.start()
    until(lambda: len(sent) > 20, timeout=TIMEOUT)  # as much as may be on its way
    thread.join(0.2)
    assert len(sent) < 50
    gate.set()
    thread.join(TIMEOUT)
    until(lambda: board.heard == b"x" * 1_000_000, timeout=TIMEOUT)


def test_discard_is_all_that_has_come(console: Console, board: Board) -> None:
    """`discard` returns what was read and what was not, and leaves what the last match set."""
    say(console, board, b"one two ")
    console.expect("one", timeout=TIMEOUT)
    say(console, board, b"three" + b"." * 200_000)
    assert console.discard() == " two three" + "." * 200_000
    assert (console.after, console.discard()) == ("one", "")
    say(console, board, b"four")
    console.expect("^four", timeout=TIMEOUT)


def test_all_in_any_order(console: Console, board: Board) -> None:
    """`expect_all` waits for each pattern, whichever comes first, and returns the matches as they were asked for."""
    say(console, board, b"mmc0: card\neth0: link up 1000\nusb0: hub\n")
    link, card = console.expect_all([r"link up (\d+)", "mmc0: (card)"], timeout=TIMEOUT)
    assert (link[1], card[1], console.after) == ("1000", "card", "link up 1000")
    with pytest.raises(pexpect.TIMEOUT, match=r"waited 0\.1s for 'never' or 'nowhere'"):
        console.expect_all(["never", "usb0", "nowhere"], timeout=0.1)


def test_what_must_not_come(console: Console, board: Board) -> None:
    """`not_matching` ends a wait at once if it comes first, and not if it comes after the pattern."""
    say(console, board, b"mmc0: I/O error, dev 0\nlogin: error\n")
    with pytest.raises(
        AssertionError, match=r"'login: ' was waited for without 'I/O error' or 'panic', and the board"
    ) as told:
        console.expect("login: ", timeout=TIMEOUT, not_matching=["I/O error", "panic"])
    assert "mmc0: I/O error, dev 0" in str(told.value)
    console.expect_exact("login: ", timeout=TIMEOUT, not_matching="error$")
    with pytest.raises(AssertionError, match="without 'error'"):
        console.expect(pexpect.TIMEOUT, timeout=TIMEOUT, not_matching="error")
    console.expect(pexpect.TIMEOUT, timeout=0.1, not_matching="error")


@pytest.mark.parametrize("place", ["before", "after"])
def test_secret_where_a_line_is_cut(console: Console, board: Board, place: str) -> None:
    """Of a secret at the place where a long line is cut, nothing is in the error."""
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0In0.c2lnbmF0dXJlMQ"
    long = f"{token} {'.' * 475}I/O error" if place == "before" else f"I/O error{'.' * 470} {token} "
    board.say(f"{'.' * 600 * (place == 'before')}{long}{'.' * 600 * (place == 'after')}\n".encode())
    with pytest.raises(AssertionError) as caught:
        console.expect("login: ", timeout=TIMEOUT, not_matching="I/O error")
    shown = str(caught.value).partition("seen before that")[0]
    assert not any(token[start : start + 12] in shown for start in range(len(token) - 12))


def test_time_of_arrival(console: Console, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """`time` is when the last character of the match arrived, whatever stands between, however late it is read."""
    now = 1000.0
    monkeypatch.setattr(real_time, "time", lambda: now)
    with pytest.raises(RuntimeError, match="nothing has matched yet"):
        _ = console.time
    for data in (b"plain ", "grün ● ".encode(), b"\xff\xfe ", b"\x1b[1;32mgreen\x1b[0m ", "ü".encode()[:1]):
        say(console, board, data)
        now += 1
    say(console, board, "ü".encode()[1:] + b" last")
    for pattern, moment in (
        ("plain", 1000),
        ("gr.n", 1001),
        ("● ", 1001),
        ("green", 1003),
        ("ü", 1005),
        ("last", 1005),
    ):
        console.expect(pattern, timeout=TIMEOUT)
        assert console.time == moment, pattern
    with pytest.raises(pexpect.TIMEOUT):
        console.expect("never", timeout=0)
    assert console.time == 1005


def test_escape_codes_by_choice(console: Console, board: Board) -> None:
    """Escape codes stay in the text, or are removed, also those that come in pieces; the recording has them."""
    output = b"\x1b[1;32m[  \x1b[0mOK\x1b[1;32m  ]\x1b[0m Started \x1b]0;title\x07\x1b(Bssh.\n"
    say(console, board, output)
    console.expect(r"\x1b\[0m Started .*\n", timeout=TIMEOUT)
    console.keeps_escapes = False
    for number in range(len(output)):
        say(console, board, output[number : number + 1])
        assert console.expect(["never", pexpect.TIMEOUT], timeout=0) == 1
    console.expect(r"^\[  OK  \] Started ssh\.\n$", timeout=TIMEOUT)
    assert console._port.recording.read(0, 1000)[1] == output * 2


CRASHES = (
    "[    2.137462] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    "[   11.600215] Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP",
    "Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "HardFault at 0x08001234",
    "[00:00:03.412,000] <err> os: ***** HARD FAULT *****",
    "[00:00:00.020,000] <err> os: ***** MPU FAULT *****",
    "E: ***** BUS FAULT *****",
    "E: ***** USAGE FAULT *****",
    "[00:00:00.030,000] <err> os: >>> ZEPHYR FATAL ERROR 19: Unknown error on CPU 0",
    "[   64.212001] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [init:1]",
    "msm_watchdog: Watchdog bite received!",
    "rst:0x7 (TG0WDT_SYS_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
    "Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.",
    "E (10303) task_wdt: Task watchdog got triggered. The following tasks/users did not reset the watchdog in time:",
    '"Synchronous Abort" handler, esr 0x96000210, far 0x0',
    "### ERROR ### Please RESET the board ###",
)
"""What boards print when they crash."""


def test_each_crash_ends_a_wait(console: Console, board: Board) -> None:
    """Each message of a crash ends a waiting `expect` at once, and the error quotes its line."""
    for crash in CRASHES:
        say(console, board, f"before\r\n{crash}\r\nlogin: ".encode())
        with pytest.raises(ConsoleFatal) as told:
            console.expect("login: ", timeout=TIMEOUT)
        assert crash in str(told.value)
        console.discard()


def test_no_healthy_boot_is_a_crash(console: Console, board: Board) -> None:
    """Logs of healthy boots, with all that they say of watchdogs, faults and resets, end no `expect`."""
    logs = sorted(Path(__file__).with_name("data").joinpath("boot_logs").glob("*.log"))
    assert len(logs) >= 6
    for log in logs:
        say(console, board, log.read_bytes() + b"\nHEALTHY\n")
        console.expect("HEALTHY", timeout=TIMEOUT)


def test_results_on_a_console(console: Console, board: Board) -> None:
    """`expect_results` reads to the last line and no further, and raises what failed, crashed or did not come."""
    say(console, board, b"\x1b[32mok 1 - fine\x1b[0m\r\n1..1\r\nlogin: ")
    assert [str(result) for result in console.expect_results("ktap", timeout=TIMEOUT)] == ["fine passed"]
    console.expect("^login: ", timeout=TIMEOUT)
    say(console, board, b"a.c:1:one:PASS\na.c:2:two:FAIL: no\n2 Tests 1 Failures 0 Ignored\n")
    with pytest.raises(BoardFailures, match=r"console: 1 of 2 tests failed\n  two failed: no") as failed:
        console.expect_results("unity", timeout=TIMEOUT)
    assert [result.name for result in failed.value.results] == ["one", "two"]
    say(console, board, b"1..2\nok 1 a\nKernel panic - not syncing: x\nok 2 b\n")
    with pytest.raises(ConsoleFatal):
        console.expect_results("ktap", timeout=TIMEOUT)
    console.discard()
    say(console, board, b"START - a\n PASS - a in 0.1 seconds\n")
    with pytest.raises(pexpect.TIMEOUT, match=r"waited 0\.1s for the end of the ztest results"):
        console.expect_results("ztest", timeout=0.1)
    assert [result.name for result in console.results] == ["fine", "one", "two", "a", "a"]
    say(console, board, b"0 Tests 0 Failures 0 Ignored\n")
    with pytest.raises(BoardFailures, match="no test ran"):
        console.expect_results("unity", timeout=TIMEOUT)
    with pytest.raises(ValueError, match="choose from unity, ztest, ktap"):
        console.expect_results("junit")

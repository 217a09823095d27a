"""What a console said, in the reports of tests that fail: all of it, of the right test, and in every file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from conftest import exporter_document, serve_test_drivers

from pytest_jumpstarter.lab import Lab

PANIC = "Kernel panic - not syncing: <VFS>"

# The board echoes what is typed; the words are put together so that no traceback shows them.
CONFTEST = """
    import pytest

    @pytest.fixture(scope="module")
    def booted(dut):
        console = dut.console()
        dut.power.on()
        console.expect("login: ")
        console.sendline(" ".join(["Kernel", "panic - not syncing: <VFS>"]))
        console.expect("not syncing.*board", timeout=10)
        assert not console, dut.lease.name
"""


UBOOT = """\
  power: {type: jumpstarter_driver_power.driver.MockPower}
  serial: {type: drivers_for_console.Uboot}
  screen: {type: drivers_for_console.Screen}
  uboot:
    type: jumpstarter_driver_uboot.driver.UbootConsole
    children: {power: {ref: power}, serial: {ref: serial}}
"""


@pytest.fixture(scope="module")
def uboot_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve two boards with U-Boot on their serial ports."""
    boards = (exporter_document(name, "board: uboot", UBOOT) for name in ("uboot-1", "uboot-2"))
    with serve_test_drivers(tmp_path_factory.mktemp("lab"), *boards) as lab:
        yield lab


@pytest.fixture
def uboots(pytester: pytest.Pytester, uboot_lab: Lab) -> pytest.Pytester:
    """Return a folder whose ini file points at these boards."""
    pytester.makeini(f"[pytest]\njmp_client = {uboot_lab.client_config}\njmp_selector = board=uboot\njmp_wait = 60s\n")
    return pytester


def told_by(suite: pytest.Pytester) -> dict[str, Any]:
    """Return what `run.json` says of each test, by its name."""
    told = json.loads(suite.path.joinpath("run.json").read_text())
    return {test["id"].partition("::")[2]: test for test in told["tests"]}


def test_panic_in_setup_is_in_every_file(suite: pytest.Pytester) -> None:
    """A panic in the setup of a wide fixture stands in terminal, JUnit, JSON and page, with board and lease."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        """
        def test_before(dut): pass
        def test_first(booted): pass
        def test_second(booted): pass
        def test_other(dut, console):
            console.sendline("version")
            console.expect(r"\\d\\.\\d\\.\\d", timeout=10)
            assert dut is None
        """
    )
    files = ("--jmp-report=run.json", "--jmp-report=run.html", "--junitxml=report.xml")
    result = suite.runpytest_subprocess(*files)
    result.assert_outcomes(passed=1, errors=2, failed=1)
    tests = told_by(suite)
    lease = tests["test_first"]["devices"][0]["lease"]
    shown = [
        "console of dut (board-1)",
        f"lease {lease}",
        "-- setup",
        r"\d\d:\d\d:\d\d\.\d\d\d Boot ROM 1.0, board serial 0001",
        r"\d\d:\d\d:\d\d\.\d\d\d board login: " + re.escape(PANIC),
    ]
    result.stdout.re_match_lines([rf"-* ?{re.escape(shown[0])} ?-*", *shown[1:]])
    section = tests["test_first"]["sections"][shown[0]]
    assert [line for line in shown[1:] if not re.search(rf"^{line}$", section, re.MULTILINE)] == []
    assert re.search(
        r"-- setup\n(.*\n)*.* INFO power on$", tests["test_first"]["sections"]["exporter log of dut (board-1)"]
    )
    assert "nothing during this test; before it" in tests["test_second"]["sections"][shown[0]]
    assert "Boot ROM" not in tests["test_other"]["sections"][shown[0]]
    for name in ("run.html", "report.xml"):
        text = html.unescape(suite.path.joinpath(name).read_text())
        assert re.search(rf"\.\d\d\d board login: {re.escape(PANIC)}", text), name
        assert re.search(rf"console of dut \(board-1\).*\n?.*lease {lease}", text), name


def test_recorded_without_a_reader(suite: pytest.Pytester) -> None:
    """With `--jmp-console` a console is recorded from the start, and nobody who opens it steals from another."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        def test_power(dut):
            dut.power.on()
            with dut.drivers["console"].pexpect() as port:  # as drivers do that open the console themselves
                port.expect("login: ", timeout=10)
                port.sendline("by a driver")
                port.expect("board:~#", timeout=10)
                assert dut.console().expect("Boot ROM") == 0  # nothing was stolen
            with dut.board.console.pexpect() as port:
                port.sendline("version")
                port.expect("1.0.0", timeout=10)
            assert dut.console().expect("version") is None
        def test_lost(dut, console):
            console.sendline("the last words")
            console.expect("not found", timeout=10)
            raise ExporterOffline("as if it were")
        """
    )
    options = ("--jmp-console=retain-on-failure", "--jmp-report=run.json")
    result = suite.runpytest_subprocess(*options)
    assert "1 failed, 1 device error in" in result.outlines[-1]
    result.stdout.re_match_lines([r"DEVICE ERROR .*test_lost", "-+ console of dut .board-1. -+", ".*the last words"])
    [section] = [
        text for title, text in told_by(suite)["test_power"]["sections"].items() if title.startswith("console")
    ]
    said = re.sub(r"^\d\d:\S+ ", "", section, flags=re.MULTILINE)
    assert "Boot ROM 1.0" in said
    assert "board login: by a driver" in said
    assert "board:~# version\n1.0.0" in said


def test_uboot_driver_is_recorded(uboots: pytest.Pytester) -> None:
    """The U-Boot driver, which opens the console itself, works beside a test that reads it, and is in the record."""
    uboots.makepyfile(
        """
        def test_it(dut, console):
            with dut.uboot.reboot_to_console():
                assert dut.uboot.get_env("serverip") == "of the board"
                assert dut.uboot.get_env("ipaddr") == "of the board"
            console.sendline("by the test")
            console.expect("by the test")
            with dut.uboot.reboot_to_console():
                dut.uboot.set_env("bootdelay", "3")
            console.sendline("garbage")
            console.sendline("last")
            console.expect("last", timeout=10)
            assert "setenv bootdelay '3'" in console.before
            assert console is None
        """
    )
    options = ("--junitxml=report.xml", "--jmp-report=run.json", "--jmp-artifacts=out")
    uboots.runpytest_subprocess(*options).assert_outcomes(failed=1)
    [section] = [text for title, text in told_by(uboots)["test_it"]["sections"].items() if title.startswith("console")]
    commands = ("printenv serverip", "printenv ipaddr", "by the test", "setenv bootdelay '3'")
    places = [section.index(command) for command in (*commands, "last")]
    assert places == sorted(places)
    xmlschema.XMLSchema(str(Path(__file__).with_name("junit.xsd"))).validate(str(uboots.path / "report.xml"))
    assert "\N{REPLACEMENT CHARACTER}" in section
    [folder] = uboots.path.joinpath("out").iterdir()
    assert bytes(range(256)) + b"\xef\xbf\xbe\r\n" in folder.joinpath("console.log").read_bytes()
    assert folder.joinpath("screenshot-screen.jpg").read_bytes() == b"a picture"


def test_flood_that_nobody_reads(uboots: pytest.Pytester) -> None:
    """A board that says much while nobody reads holds up neither driver nor test, and not a byte is lost."""
    uboots.makepyfile(
        """
        import time
        from pytest_jumpstarter.device.device import connected
        def test_it(dut, console):
            console.sendline("flood 256")
            line = connected(dut).serial_ports[0]
            deadline = time.monotonic() + 60
            while not line.recording.tail(0, 10)[1].endswith(b"=> ") and time.monotonic() < deadline:
                dut.power.on()
            console.expect_exact("=> ", timeout=30)
            numbers = [each.split()[0] for each in console.before.splitlines()[1:]]
            assert numbers == [f"{number:07}" for number in range(256 * 1024)]
            assert console is None
        """
    )
    uboots.runpytest_subprocess("--jmp-report=run.json").assert_outcomes(failed=1)
    test = told_by(uboots)["test_it"]
    [section] = [text for title, text in test["sections"].items() if title.startswith("console")]
    assert test["reason"].startswith("assert <Console")
    assert f"{256 * 1024 - 1:07}" in section


def test_exporter_log(suite: pytest.Pytester) -> None:
    """What an exporter says goes to `logging`, and is a section of the test that fails; not a record of it is lost."""
    suite.makepyfile(
        """
        import time, pytest
        def test_one(dut, caplog):
            caplog.set_level("INFO", "jumpstarter.exporter.dut")
            for _ in range(20):
                dut.power.on()
            deadline = time.monotonic() + 10
            while len(caplog.messages) < 20 and time.monotonic() < deadline:
                dut.power.read()
            assert caplog.messages.count("power on") == 20
            assert {record.name for record in caplog.records} == {"jumpstarter.exporter.dut.driver"}
            pytest.fail("to see it")
        def test_two(dut):
            dut.power.off()
            pytest.fail("to see it")
        """
    )
    suite.runpytest_subprocess("--jmp-report=run.json").assert_outcomes(failed=2)
    one, two = (told["sections"]["exporter log of dut (board-1)"] for told in told_by(suite).values())
    assert one.count("INFO power on") == 20
    assert [line.split(maxsplit=1)[1] for line in two.splitlines()] == ["call", "INFO power off"]


def test_hook_output_is_marked(suite: pytest.Pytester) -> None:
    """What the beforeLease hook says stands in the log of the test that waits for it, and is marked."""
    suite.makepyfile("def test_it(dut): assert dut is None")
    suite.runpytest_subprocess("--jmp-report=run.json", "--jmp-selector=board=hooked").assert_outcomes(failed=1)
    log = told_by(suite)["test_it"]["sections"]["exporter log of dut (hook-1)"]
    assert re.search(
        r"-- setup\n(.*\n)*.* INFO beforeLease hook: preparing the bench\n.*: the relay card is stuck", log
    )


KUNIT = """
    import time, pytest
    from pytest_jumpstarter.masking import learn

    def type_in(console, lines):  # the board echoes what is typed
        console.timeout = 20
        for line in lines:
            console.sendline(line)

    def test_results(dut, console):
        dut.power.on()
        console.expect("login: ", timeout=20)
        console.sendline("")
        type_in(console, ["TEST(G, first) PASS", "a b:2:two:FAIL: no", "a b:3:three:IGNORE: later"])
        console.sendline("3 Tests 1 Failures 1 Ignored")
        console.expect_results("unity")
    def test_defaults(console):
        assert (console.timeout, console.spawn.timeout, console.keeps_escapes) == (7, 7, False)
    def test_live(dut, console, caplog):
        caplog.set_level("INFO", "jumpstarter.console.dut")
        learn("hush-hush")
        console.sendline("red hush-hush ##[error]")
        console.sendline("last of all")
        console.expect("not found.*last of all.*not found", timeout=20)
        deadline = time.monotonic() + 20
        while not any("last of all" in message for message in caplog.messages) and time.monotonic() < deadline:
            time.sleep(0.05)
        said = [message for message in caplog.messages if "red" in message]
        assert said and "hush" not in str(said) and "##[" not in str(said), caplog.messages
"""


def test_results_and_lines_of_a_board(suite: pytest.Pytester) -> None:
    """Results of tests on the board are in each report; its lines are shown and logged at once, without secrets."""
    suite.makepyfile(KUNIT)
    options = ("--jmp-report=run.json", "--junitxml=report.xml", "--jmp-console-live")
    result = suite.runpytest_subprocess(*options, "--jmp-console-timeout=7", "--jmp-console-escapes=strip", "-rA")
    outcomes = {test["id"].partition("::")[2]: test["outcome"] for test in told_by(suite).values()}
    assert outcomes == {"test_results": "failed", "test_defaults": "passed", "test_live": "passed"}, result.outlines
    result.stdout.re_match_lines(
        [r"dut\| Boot ROM 1\.0, board serial 0001", r"dut\| .*\*\*\*", ".*1 of 3 tests failed"]
    )
    result.stdout.no_re_match_line(r"dut\| .*(hush|##\[)")
    sections = told_by(suite)["test_results"]["sections"]
    assert sections["tests on dut (board-1)"] == "G.first passed\ntwo failed: no\nthree skipped: later"
    text = suite.path.joinpath("report.xml").read_text()
    assert '<property name="jumpstarter.test.two" value="failed"' in text
    if hasattr(pytest, "Subtests"):
        result.stdout.re_match_lines([r"SUBFAILED\[two\] .*test_results"])

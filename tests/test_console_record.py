"""What a console said, in the reports of tests that fail: all of it, of the right test, and in every file."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

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
        "--- setup",
        r"\d\d:\d\d:\d\d\.\d\d\d Boot ROM 1.0, board serial 0001",
        r"\d\d:\d\d:\d\d\.\d\d\d board login: " + re.escape(PANIC),
    ]
    result.stdout.re_match_lines([rf"-* ?{re.escape(shown[0])} ?-*", *shown[1:]])
    section = tests["test_first"]["sections"][shown[0]]
    assert [line for line in shown[1:] if not re.search(rf"^{line}$", section, re.MULTILINE)] == []
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
        """
    )
    options = ("--jmp-console=retain-on-failure", "--jmp-report=run.json")
    suite.runpytest_subprocess(*options).assert_outcomes(failed=1)
    [section] = [
        text for title, text in told_by(suite)["test_power"]["sections"].items() if title.startswith("console")
    ]
    said = re.sub(r"^\d\d:\S+ ", "", section, flags=re.MULTILINE)
    assert "Boot ROM 1.0" in said
    assert "board login: by a driver" in said
    assert "board:~# version\n1.0.0" in said

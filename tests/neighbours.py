"""The table of docs/neighbours.md: other plugins, and how a suite with devices runs beside each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple


class Beside(NamedTuple):
    """
    What a run beside a plugin left.

    Attributes:
        folder: Where it ran.
        output: What it printed.
        tests: The tests of `--jmp-report`, with each attempt.
    """

    folder: Path
    output: str
    tests: list[dict[str, Any]]

    def text(self, name: str) -> str:
        """Return the text of a file, or of all files in a folder."""
        path = self.folder / name
        return path.read_text() if path.is_file() else "\n".join(each.read_text() for each in path.iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """
    One row.

    Attributes:
        package: Its package.
        pytest: The newest pytest that it runs with; empty if it runs with the newest that there is.
        needs: Other packages whose plugins it needs.
        args: Arguments that make it do something.
        more: Files of tests that use it.
        results: Results of these tests; those that are not named pass.
        shown: What the output or a file contains, by the file's name; the output has an empty name.
        checks: What else holds, in words for the table.
        refused: The error with which a run with devices ends before the first test; empty if it runs.
        orders: Whether it puts the tests in another order, which must be the order in which they run.
        is_at_terminal: Whether the run has a terminal.
        is_in_ci: Whether every run of the tests includes it; the others need `--full`.
    """

    package: str
    pytest: str = ""
    needs: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[tuple[str, str], ...] = ()
    checks: Mapping[str, Callable[[Beside], bool]] = field(default_factory=dict)
    refused: str = ""
    orders: bool = False
    is_at_terminal: bool = False
    is_in_ci: bool = False

    @property
    def asserted(self) -> str:
        """What is asserted, in words for the table."""
        words = ["refused: exit code 4" if self.refused else "five tests"]
        words += [f"`{' '.join(self.args)}`"] if self.args else []
        words += ["at a terminal"] if self.is_at_terminal else []
        words += ["tests that use it"] if self.more.keys() - PLAIN.keys() - {"conftest.py"} else []
        words += ["its order"] if self.orders else []
        words += [f"`{text}` in {name or 'the output'}" for name, text in self.shown]
        words += self.checks
        words += [f"`{self.refused}`"] if self.refused else []
        return ", ".join(words)


def suite(text: str) -> dict[str, str]:
    """Return the files of a suite with one module."""
    return {"test_more.py": dedent(text).strip() + "\n"}


def attempts_in_allure(beside: Beside) -> bool:
    """Return whether allure shows the attempts of the retried test as one test, which passed: the last one counts."""
    found = [json.loads(path.read_text()) for path in (beside.folder / "al").glob("*-result.json")]
    attempts = sorted((each for each in found if each["name"] == "test_retried"), key=lambda each: each["start"])
    return attempts[-1]["status"] == "passed" and len({each["historyId"] for each in attempts}) == 1


def failure_at_once(beside: Beside) -> bool:
    """Return whether the failure stands before the next test."""
    return "AssertionError: the product" in beside.output.partition("::test_lost")[0]


def attempts_in_teamcity(beside: Beside) -> bool:
    """Return whether the retried test is neither ignored nor failed."""
    words = re.findall(r"##teamcity\[(\w+) .*test_retried", beside.output)
    return bool(words) and not {"testIgnored", "testFailed"} & set(words)


def failed_check(beside: Beside) -> bool:
    """Return whether a failed check has the console."""
    (test,) = (each for each in beside.tests if each["id"].endswith("::test_fails_a_check"))
    return "login:" in test["sections"]["console of dut (board-1)"] and "the check" in str(test["sections"])


def repeated(beside: Beside) -> bool:
    """Return whether a test that is repeated has three results."""
    ids = {each["id"] for each in beside.tests if each["outcome"] == "passed"}
    return ids >= {f"test_more.py::test_repeated[{number}-3]" for number in (1, 2, 3)}


def report_after_flash(marks: tuple[str, str], *, is_first: bool) -> dict[str, str]:
    """
    Return two modules: a test without device needs what one with a device did.

    Args:
        marks: The marks of the test with device, and of the one without.
        is_first: Whether the module of the test with device comes first.
    """
    flash, report = ("test_1_flash.py", "test_2_report.py") if is_first else ("test_2_flash.py", "test_1_report.py")
    note = "Path(__file__).with_name('flashed')"
    head = "from pathlib import Path\nimport pytest\n"
    return {
        flash: f"{head}{marks[0]}\ndef test_flash(dut):\n    dut.power.on()\n    {note}.touch()\n",
        report: f"{head}{marks[1]}\ndef test_report():\n    assert {note}.exists()\n",
    }


PLAIN = {"test_a_plain.py": "def test_plain(): pass\ndef test_other(): pass\n"}
"""Tests that would run first if nobody ordered; here others do."""
FORKED = "pytest-forked (--forked, @pytest.mark.forked) runs a test with a device in a child process"
KEPT = ("", "jumpstarter: tests keep their order")

NEIGHBOURS = [
    Neighbour(
        package="allure-pytest",
        args=("--alluredir=al",),
        shown=tuple(("al", text) for text in ('"name": "exporter"', '"name": "lease"', "console of dut", '"broken"')),
        checks={"the retried test is one test, which passed": attempts_in_allure},
        is_in_ci=True,
    ),
    Neighbour(package="anyio", more=suite("""
        import pytest
        pytestmark = pytest.mark.anyio
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(
        package="eventlet",
        more={"conftest.py": "import eventlet\neventlet.monkey_patch()\n"},
        refused="eventlet has patched thread, socket, select, but a device needs real threads and sockets",
        is_in_ci=True,
    ),
    Neighbour(package="freezegun", more=suite("""
        from datetime import datetime
        from freezegun import freeze_time
        @freeze_time("2020-01-01")
        def test_frozen(dut, console):
            dut.power.cycle()
            console.expect("login:")
            assert datetime.now().year == 2020
    """)),
    Neighbour(
        package="gevent",
        more={"conftest.py": "from gevent import monkey\nmonkey.patch_all()\n"},
        refused="gevent has patched threading, socket, select, but a device needs real threads and sockets",
        is_in_ci=True,
    ),
    Neighbour(package="hypothesis", more=suite("""
        import pytest
        from hypothesis import given, settings, strategies, HealthCheck
        @settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(strategies.booleans())
        def test_given(dut, is_on): (dut.power.on if is_on else dut.power.off)()
    """)),
    Neighbour(package="pyfakefs", more=suite("""
        from pathlib import Path
        def test_fake(fs, dut, console):
            Path("/only-here").write_text("fake")
            dut.power.cycle()
            console.expect("login:")
            assert Path("/only-here").exists()
    """)),
    Neighbour(package="pytest-asyncio", more=suite("""
        import pytest
        @pytest.mark.asyncio
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-bdd", more=suite("""
        from pathlib import Path
        from pytest_bdd import given, scenarios
        Path(__file__).with_name("a.feature").write_text("Feature: a\\n  Scenario: b\\n    Given power\\n")
        @given("power")
        def power(dut): dut.power.on()
        scenarios("a.feature")
    """)),
    Neighbour(package="pytest-check", more=suite("""
        from pytest_check import check
        def test_passes_a_check(dut):
            with check: assert dut.exporter.name
        def test_fails_a_check(dut, console):
            dut.power.cycle()
            console.expect("login:")
            with check: assert not dut.exporter.name, "the check"
    """), results={"test_fails_a_check": "failed"}, checks={"a failed check has the console": failed_check}),
    Neighbour(package="pytest-cov", args=("--cov=.", "--cov-report=term"), shown=(("", "TOTAL"),)),
    Neighbour(package="pytest-dependency", more=report_after_flash((
        "@pytest.mark.dependency()",
        "@pytest.mark.dependency(depends=['test_1_flash.py::test_flash'], scope='session')",
    ), is_first=True), shown=(KEPT,)),
    Neighbour(package="pytest-forked", args=("--forked",), refused=FORKED, is_in_ci=True),
    Neighbour(package="pytest-forked", more=suite("""
        import pytest
        @pytest.mark.forked
        def test_forked(dut): pass
    """), refused=FORKED, is_in_ci=True),
    Neighbour(package="pytest-forked", more=suite("""
        import os, pytest
        here = os.getpid()
        @pytest.mark.forked
        def test_without_device(): assert os.getppid() == here
    """), pytest="9.1.1"),
    Neighbour(
        package="pytest-html",
        needs=("pytest-metadata",),
        args=("--html=p.html",),
        shown=(("p.html", "Exporter"), ("p.html", "board-")),
    ),
    Neighbour(package="pytest-instafail", args=("--instafail", "-v"),
              checks={"the failure stands before the next test": failure_at_once}),
    Neighbour(
        package="pytest-json-report",
        args=("--json-report", "--json-report-file=r.json"),
        shown=(("r.json", "console of dut"), ("r.json", '"device error": 1'), ("r.json", '"passed": 2')),
        is_in_ci=True,
    ),
    Neighbour(package="pytest-lazy-fixtures", more=suite("""
        import pytest
        from pytest_lazy_fixtures import lf
        @pytest.mark.parametrize("board", [lf("dut")])
        def test_lazy(board): board.power.on()
    """)),
    Neighbour(
        package="pytest-order",
        more=report_after_flash(("@pytest.mark.order(1)", "@pytest.mark.order(2)"), is_first=False),
        shown=(KEPT,),
        orders=True,
    ),
    Neighbour(
        package="pytest-ordering",
        more=report_after_flash(("@pytest.mark.run(order=1)", "@pytest.mark.run(order=2)"), is_first=False),
        shown=(KEPT,),
        orders=True,
    ),
    Neighbour(
        package="pytest-random-order",
        args=("--random-order", "--random-order-seed=2"),
        more=PLAIN,
        shown=(KEPT,),
        orders=True,
    ),
    Neighbour(package="pytest-randomly", args=("--randomly-seed=1",), more=PLAIN, shown=(KEPT,), orders=True),
    Neighbour(package="pytest-repeat", more=suite("""
        import pytest
        @pytest.mark.repeat(3)
        def test_repeated(dut): dut.power.on()
    """), checks={"three results of a test that is repeated": repeated}),
    Neighbour(package="pytest-reportlog", args=("--report-log=log.jsonl",), shown=(("log.jsonl", "console of dut"),)),
    Neighbour(package="pytest-rerunfailures", args=("--reruns=1",)),
    Neighbour(package="pytest-retry", args=("--retries=1",)),
    Neighbour(package="pytest-reverse", args=("--reverse",), more=PLAIN, shown=(KEPT,), orders=True),
    Neighbour(package="pytest-rich", args=("--rich",), is_at_terminal=True, shown=(("", "Total Tests"),)),
    Neighbour(package="pytest-socket", args=("--disable-socket", "--allow-unix-socket"), more=suite("""
        import socket
        import pytest
        from pytest_socket import SocketBlockedError
        def test_blocked(dut):
            dut.power.on()
            with pytest.raises(SocketBlockedError): socket.socket()
    """)),
    Neighbour(package="pytest-split", args=("--splits=1", "--group=1")),
    Neighbour(package="pytest-subtests", pytest="8.4.2", more=suite("""
        def test_sub(dut, subtests):
            for _ in range(2):
                with subtests.test(): dut.power.on()
    """)),
    Neighbour(package="pytest-sugar", args=("--force-sugar",), shown=(("", "█"),)),
    Neighbour(package="pytest-timeout", args=("--timeout=60",)),
    Neighbour(package="pytest-trio", more=suite("""
        import pytest
        @pytest.mark.trio
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-xdist", args=("-n2",)),
    Neighbour(package="pytest-xdist", args=("--dist=each", "--tx=2*popen")),
    Neighbour(package="teamcity-messages", args=("--teamcity",), shown=(("", "##teamcity[testFailed"),),
              checks={"the retried test is neither ignored nor failed": attempts_in_teamcity}),
    Neighbour(package="time-machine", more=suite("""
        from datetime import datetime
        import time_machine
        @time_machine.travel("2020-01-01")
        def test_elsewhen(dut, console):
            dut.power.cycle()
            console.expect("login:")
            assert datetime.now().year == 2020
    """)),
]  # fmt: skip

ELSEWHERE = {
    ("pytest-xdist", "`-f`"): "tests/test_looponfail.py::test_looponfail",
    (
        "Visual Studio Code",
        "the calls of its adapter",
    ): "tests/test_other_reporters.py::test_an_editor_shows_the_last_attempt",
}
"""What has a test of its own."""

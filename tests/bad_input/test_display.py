"""However a run is shown: an error of ours in each of pytest's styles, and in reports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .runs import TWO_TESTS


@pytest.mark.parametrize(
    "args",
    [
        ("--tb=short",),
        ("--tb=long",),
        ("--tb=native",),
        ("--tb=line",),
        ("-q",),
        ("-v",),
        ("--showlocals",),
        ("--setup-show",),
        ("--color=yes",),
    ],
)
def test_however_it_is_shown(suite: pytest.Pytester, args: tuple[str, ...]) -> None:
    """Whatever style is asked for, the message is there and our code is not."""
    suite.makepyfile(TWO_TESTS)
    result = suite.runpytest("--jmp-exporter=nope", *args)
    result.assert_outcomes(errors=2)
    assert sum("exporter nope, kind=dut cannot be leased" in line for line in result.outlines) >= 2
    assert not any("pytest_jumpstarter/" in line for line in result.outlines)


def test_no_traceback_at_all(suite: pytest.Pytester) -> None:
    """--tb=no leaves the summary, whose line begins with what went wrong."""
    suite.makepyfile(TWO_TESTS)
    result = suite.runpytest("--jmp-exporter=nope", "--tb=no")
    result.stdout.fnmatch_lines(["ERROR test_no_traceback_at_all.py::test_a - LeaseUnsatisfiable: *"])


def test_everything_on_request(suite: pytest.Pytester) -> None:
    """-vv shows the way to the error through our code."""
    suite.makepyfile(TWO_TESTS)
    suite.runpytest("--jmp-exporter=nope", "-vv").stdout.fnmatch_lines(["*leasing/waiting.py:*: LeaseUnsatisfiable"])


def test_without_a_terminal(suite: pytest.Pytester) -> None:
    """A run without pytest's terminal has its outcome and gives its lease back."""
    suite.makepyfile(TWO_TESTS)
    result = suite.runpytest_subprocess("--jmp-exporter=nope", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.errlines == []


def test_junit(suite: pytest.Pytester) -> None:
    """The JUnit file has the whole message, for each test."""
    suite.makepyfile(TWO_TESTS)
    suite.runpytest("--jmp-exporter=nope", "--junitxml=report.xml")
    found = ElementTree.parse(suite.path / "report.xml").findall(".//error")
    assert len(found) == 2
    for error in found:
        assert error.attrib["message"].startswith(
            'failed on setup with "LeaseUnsatisfiable: exporter nope, kind=dut cannot be leased (jmp_selector in '
        )
        assert "the lab controller says: Requested exporter nope was not found" in str(error.text)


def test_a_fixture_of_the_user(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """An error of ours in a user's own fixture shows the line of that fixture."""
    suite.makeconftest(
        """
        import pytest
        @pytest.fixture
        def booted(dut):
            dut.power.cycle()
        """
    )
    suite.makepyfile("def test_it(booted): pass")
    file = config(drivers={"allow": ["jumpstarter_driver_composite.*"], "unsafe": False})
    result = suite.runpytest(f"--jmp-client={file}", "--tb=short")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["conftest.py:4: in booted", "    dut.power.cycle()", "E   *DriverNotAllowed: *"])
    result.stdout.no_fnmatch_line("*device/drivers.py*")


def test_a_person_s_terminal(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of 80 columns the message is broken between words."""
    monkeypatch.setenv("COLUMNS", "80")
    suite.makepyfile("def test_it(dut): pass")
    command = f"{sys.executable} -m pytest --color=no --jmp-exporter=nope"
    seen = suite.spawn(command).read().decode().replace("\r", "")
    message = seen.partition("ERROR at setup of test_it")[2].partition("\n")[2].partition("\n=")[0].splitlines()
    assert len(message) > 1
    assert max(map(len, message)) <= 80
    assert "exporter nope, kind=dut cannot be leased" in message[0]

"""The one line that says why a test failed: never a path, a line of code, or the name of a worker."""

from __future__ import annotations

import json

import pytest

from pytest_jumpstarter.report.reasons import reason_in

SUITE = """
import pytest
def test_fixture(dut, no_such): pass
@pytest.fixture
def looped(looped2): pass
@pytest.fixture
def looped2(looped): pass
def test_loop(dut, looped): pass
def test_plain(dut): pytest.fail("in plain words", pytrace=False)
def test_hidden(dut):
    __tracebackhide__ = True
    raise KeyError("hidden")
def test_group(dut): raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])
def test_empty(dut): raise ValueError
def test_lines(dut): raise ValueError("\\n\\nafter empty lines")
def test_exit(dut): raise SystemExit("left")
def answer():
    '''
    >>> answer()
    42
    '''
    return 41
"""
REASONS = {
    "test_fixture": "fixture 'no_such' not found",
    "test_loop": "recursive dependency involving fixture 'looped' detected",
    "test_plain": "in plain words",
    "test_hidden": "KeyError: 'hidden'",
    "test_group": "several (2 sub-exceptions): ValueError: one; TypeError: two",
    "test_empty": "ValueError",
    "test_lines": "ValueError:",
    "test_exit": "SystemExit: left",
    "test_it.answer": "Expected: 42 Got: 41",
}


@pytest.mark.parametrize("options", [("--tb=native",), ("-n1",)], ids=["native", "xdist"])
def test_reason_of_each(suite: pytest.Pytester, options: tuple[str, ...]) -> None:
    """The reason is what a person would say, with and without xdist."""
    suite.makepyfile(test_it=SUITE)
    suite.runpytest_subprocess("--doctest-modules", "--jmp-report=run.json", "-p", "no:rerunfailures", *options)
    tests = json.loads((suite.path / "run.json").read_text())["tests"]
    found = {test["id"].rpartition("::")[2]: test["reason"] for test in tests}
    assert {name: reason for name, reason in found.items() if REASONS[name] not in reason} == {}
    assert [reason for reason in found.values() if "linux" in reason or ".py" in reason] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "ImportError while importing\nTraceback:\nE   ModuleNotFoundError: No module named 'x'",
            "ModuleNotFoundError",
        ),
        (
            'E     File "/a.py", line 1\nE       def f(:\nE             ^\nE   SyntaxError: invalid syntax',
            "SyntaxError",
        ),
        ("worker 'gw0' crashed while running 'a.py::b'", "worker 'gw0' crashed"),
        ("UNEXPECTED EXCEPTION: ZeroDivisionError()\nTraceback", "UNEXPECTED EXCEPTION: ZeroDivisionError()"),
        ("", ""),
    ],
)
def test_reason_in_text(text: str, reason: str) -> None:
    """Without an exception the reason is found in what pytest shows."""
    assert reason_in(text).startswith(reason)

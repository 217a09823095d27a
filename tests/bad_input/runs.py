"""Runs that end in one error of ours, held to how it is shown."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

TWO_TESTS = "def test_a(dut): dut.power.on()\ndef test_b(dut): dut.power.on()\n"
HEAD = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {name: badly-1, labels: {kind: dut}}\n"


def one_error(suite: pytest.Pytester, *args: str | Path, lines: int = 1) -> str:
    """
    Run two tests that need the same device, and return the one error that both end in.

    It is `lines` long, ends no other way than as pytest's own ERROR in setup, and shows no line of our code. Captured
    output is left out: what gRPC's core writes to stderr may come from a channel of an earlier test in this process.
    """
    suite.makepyfile(TWO_TESTS)
    result = suite.runpytest(*map(str, args))
    result.assert_outcomes(errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = "\n".join(line for line in result.outlines if not line.startswith("jumpstarter: exit code"))
    shown = re.findall(r"^_+ ERROR at setup of test_\w _+\n(.*?)\n(?=[-_=]{3})", text, re.DOTALL | re.MULTILINE)
    assert len(shown) == 2
    assert shown[0] == shown[1]
    assert len(shown[0].splitlines()) == lines
    assert "pytest_jumpstarter/" not in text.partition("= ERRORS =")[2]
    assert "not released" not in text
    summary = [line for line in result.outlines if line.startswith("ERROR ")]
    assert [len(line) <= 80 and " - " in line for line in summary] == [True, True]
    return str(shown[0])


def usage_error(suite: pytest.Pytester, *args: str) -> str:
    """Run a suite that pytest refuses before a test begins, and return the one line that says why."""
    suite.makepyfile(TWO_TESTS)
    result = suite.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    [line] = [line for line in result.errlines if line]
    return line.removeprefix("ERROR: ")


def one_failure(suite: pytest.Pytester, *args: str | Path) -> tuple[str, str]:
    """Run a test that fails with an error of ours, and return what it says and the line of the test shown before it."""
    result = suite.runpytest(*map(str, args))
    result.assert_outcomes(failed=1)
    text = "\n".join(result.outlines)
    [shown] = re.findall(r"^_+ test_it _+\n(.*?)\n(?=[_=]{3})", text, re.DOTALL | re.MULTILINE)
    where, line, _, error = shown.partition("\n---")[0].splitlines()  # what the exporter logged comes after it
    assert where.endswith(": in test_it")
    return error.removeprefix("E   pytest_jumpstarter.errors."), line.strip()


def leave_no_process(word: str) -> None:
    """Check that no process has `word` in its command line."""
    listing = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True, check=True).stdout
    assert [line for line in listing.splitlines() if word in line] == []

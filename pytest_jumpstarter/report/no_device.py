"""
Tests that are skipped because no device was to be had (`--jmp-no-device skip`).

The report's record has the words for the device as `no_device`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.pytest_private import skipped
from pytest_jumpstarter.report.shown import Shown

if TYPE_CHECKING:
    from pytest_jumpstarter.errors import LeaseTimeout


class Skips:
    """In the process that leases: skips tests for want of a device, and marks their reports."""

    def __init__(self) -> None:
        self._wanted: dict[BaseException, str] = {}

    def skip(self, wanted: str, error: LeaseTimeout) -> NoReturn:
        """Skip the test that needs the device, in the words of `error`."""
        reason = skipped(str(error))
        self._wanted[reason] = wanted
        raise reason from error

    def mark(self, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Note in the record for want of what the test was skipped."""
        if call.excinfo is not None and call.excinfo.value in self._wanted and report.skipped:
            record["no_device"] = self._wanted[call.excinfo.value]


class NothingTested(Shown):
    """In the process that prints: says aloud that green is not tested."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._tests: dict[str, str] = {}

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Count a test that was skipped."""
        self._tests[report.nodeid] = record["no_device"]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many tests there were, and for want of what."""
        count = len(self._tests)
        tests = f"{count} tests were" if count > 1 else "1 test was"
        terminalreporter.section("jumpstarter: no device", red=True, bold=True)
        terminalreporter.write_line(
            f"{tests} skipped because no device could be had: nothing was tested on "
            f"{' or '.join(dict.fromkeys(self._tests.values()))}",
            red=True,
            bold=True,
        )

"""The device of the first test that failed, left to people, as the terminal shows it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class HeldDevices(ReportPart):
    """In the process that prints: says how to reach the devices that are held, and gives the run its exit code."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._lines: list[str] = []

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep what is known of a held device."""
        if held := record["held"]:
            self._lines += [f"after {report.nodeid} failed:", *(f"  {line}" for line in held)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Any:
        """Exit with 1, for the failure: under xdist a process that ends the run counts as an interrupt."""
        if self._lines and exitstatus == pytest.ExitCode.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is held until when, how to reach it and how to give it back."""
        if self._lines:
            terminalreporter.section("jumpstarter: held after a failure", yellow=True, bold=True)
        for line in self._lines:
            terminalreporter.write_line(line)

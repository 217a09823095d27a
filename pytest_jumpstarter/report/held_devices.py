"""Output about the device that is kept for people after the first failure (`--jmp-hold-on-failure`)."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class HeldDevices(ReportPart):
    """In the process that prints: shows how to reach the devices that are held, and sets the exit code."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._lines: list[str] = []

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep the lines about a held device."""
        if held := record["held"]:
            self._lines += [f"after {report.nodeid} failed:", *(f"  {line}" for line in held)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
        """Set exit code 1, for the failure: under xdist pytest takes the early end of the run for an interrupt."""
        if self._lines and exitstatus == pytest.ExitCode.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show which devices are held and how long, how to reach them and how to release them."""
        if self._lines:
            terminalreporter.section("jumpstarter: held after a failure", yellow=True, bold=True)
        for line in self._lines:
            terminalreporter.write_line(line)

"""Tests that ran again after a device error, as people and machines see them: in the process that prints."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class Retried(ReportPart):
    """Shows reruns, and leaves the attempts that do not count out of the JUnit file."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._lines: list[str] = []
        self._junit_element: Any = None

    def expect(self, report: pytest.TestReport, record: Record) -> None:
        """Find the JUnit element of an attempt that does not count, before it is final."""
        self._junit_element = None
        if record.get("is_superseded"):
            self._junit_element = pytest_private.junit_element(self._config, report)

    def add(self, report: pytest.TestReport, record: Record) -> None:  # noqa: ARG002 - as all that show reports
        """Keep where a test ran and runs now."""
        self._lines += record.get("retried", [])
        if record.get("is_superseded"):
            pytest_private.junit_forget(self._config, self._junit_element)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Give a rerun the letter and word that pytest-rerunfailures gives it."""
        is_rerun = str(report.outcome) == "rerun"
        return ("rerun", "R", ("RERUN", {"yellow": True})) if is_rerun else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which tests ran again, why, and on which exporters."""
        if self._lines:
            terminalreporter.section("jumpstarter: retried after a device error", yellow=True, bold=True)
            for line in self._lines:
                terminalreporter.write_line(line)

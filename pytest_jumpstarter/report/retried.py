"""Output about tests that ran again after a device error, in the process that prints."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class Retried(ReportPart):
    """Shows reruns, and removes superseded attempts from the JUnit file."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._lines: list[str] = []
        self._junit_element: object = None

    def expect(self, report: pytest.TestReport, record: Record) -> None:
        """Find the JUnit element of a superseded attempt, before the JUnit plugin completes it."""
        self._junit_element = None
        if record.get("is_superseded"):
            self._junit_element = pytest_private.junit_element(self._config, report)

    def add(self, report: pytest.TestReport, record: Record) -> None:  # noqa: ARG002 - the signature of all parts
        """Keep the lines about a rerun; remove the JUnit element of a superseded attempt."""
        self._lines += record.get("retried", [])
        if record.get("is_superseded"):
            pytest_private.junit_forget(self._config, self._junit_element)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """
        Return the category, letter and word for a rerun that pytest-rerunfailures uses.

        The plugin of Visual Studio Code takes the first report of a call that it sees here for the test's result, so
        the phase is hidden from it.
        """
        if str(report.outcome) != "rerun":
            return (yield)
        phase, report.when = report.when, "setup"
        try:
            yield
        finally:
            report.when = phase
        return "rerun", "R", ("RERUN", {"yellow": True})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show which tests ran again, why, and on which exporters."""
        if self._lines:
            terminalreporter.section("jumpstarter: retried after a device error", yellow=True, bold=True)
            for line in self._lines:
                terminalreporter.write_line(line)

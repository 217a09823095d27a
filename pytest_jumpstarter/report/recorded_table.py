"""In the process that prints: fills the `RunRecord` of a run, for the files and the history."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.run_record import RunRecord
from pytest_jumpstarter.report.summary_table import SummaryTable


class RecordedTable(SummaryTable):
    """
    A table that also keeps what happened in each test, for files and the history.

    Attributes:
        run_record: What happened so far.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self.run_record = RunRecord()
        self.use = self.run_record.use

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Add the report of a test."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        self.run_record.add(report, record, status[0] if status else _category(report))
        self.keep(record)


def _category(report: pytest.TestReport) -> str:
    """Return the category that pytest's terminal gives the report, for a run without terminal (`-p no:terminal`)."""
    return "error" if report.failed and report.when != "call" else report.outcome

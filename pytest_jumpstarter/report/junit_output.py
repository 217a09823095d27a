"""Output of consoles and exporters during a failed test, in the JUnit file."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class JunitOutput(ReportPart):
    """In the process that prints: writes our sections of reports, which the JUnit plugin ignores."""

    def expect(self, report: pytest.TestReport, record: Record) -> None:
        """Write the sections now, because the JUnit plugin completes the test's element when it gets the report."""
        names = record["sections"]
        element = pytest_private.junit_element(self._config, report) if names else None
        for title, text in report.sections:
            if element is not None and title in names:
                pytest_private.junit_output(element, f"{title}\n{text}")

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Do nothing: `expect` wrote the sections."""

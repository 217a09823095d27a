"""What a device said during a test that failed, in the JUnit file."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class JunitOutput(ReportPart):
    """In the process that prints: writes the sections that are ours, which the JUnit plugin would leave out."""

    def expect(self, report: pytest.TestReport, record: Record) -> None:
        """Write them, before the report makes the test's element final."""
        names = record["sections"]
        element = pytest_private.junit_element(self._config, report) if names else None
        for title, text in report.sections:
            if element is not None and title in names:
                pytest_private.junit_output(element, f"{title}\n{text}")

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Do nothing: all is done."""

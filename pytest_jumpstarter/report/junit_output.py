"""What a device said during a test that failed, in the JUnit file."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.report.shown import Shown


class JunitOutput(Shown):
    """In the process that prints: writes the sections that are ours, which the JUnit plugin would leave out."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def expect(self, report: pytest.TestReport) -> None:
        """Write them, before the report makes the test's element final."""
        names = getattr(report, "evidence", [])
        element = pytest_private.junit_element(self._config, report) if names else None
        for title, text in report.sections:
            if element is not None and title in names:
                pytest_private.junit_output(element, f"{title}\n{text}")

    def add(self, report: pytest.TestReport) -> None:
        """Do nothing: all is done."""

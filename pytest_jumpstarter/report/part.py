"""`ReportPart`: base class of the parts that show something of a test's record."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from pytest_jumpstarter.evidence.record import Record

SUMMARY_TABLE: pytest.StashKey[ReportPart] = pytest.StashKey()
"""The part that makes the summary table; `--jmp-report` replaces it by one that adds the reports of all tests."""


class ReportPart(ABC):
    """Gets each report that contains something for it, before and after every other plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def expect(self, report: pytest.TestReport, record: Record) -> None:  # noqa: B027 - most do nothing here
        """Handle `report` before other plugins get it."""

    @abstractmethod
    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep `report`, or what will be shown of it."""

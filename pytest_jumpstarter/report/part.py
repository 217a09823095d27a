"""`ReportPart`: what every part has that shows something of a test's record."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from pytest_jumpstarter.evidence.record import Record

SUMMARY_TABLE = pytest.StashKey["ReportPart"]()
"""What sums up the reports; `--jmp-report` brings its own, which takes in the reports of all tests."""


class ReportPart(ABC):
    """Is told of each report that has something to show, before and after every other plugin sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def expect(self, report: pytest.TestReport, record: Record) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare for what other plugins make of `report`."""

    @abstractmethod
    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep `report`, or what is to be shown of it."""

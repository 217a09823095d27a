"""What every part that shows something of a test's report has."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest


class Shown(ABC):
    """Is told of each report that has something to show, before and after every other plugin sees it."""

    def expect(self, report: pytest.TestReport) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare for what other plugins make of `report`."""

    @abstractmethod
    def add(self, report: pytest.TestReport) -> None:
        """Keep `report`, or what is to be shown of it."""

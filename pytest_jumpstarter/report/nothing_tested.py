"""Output about tests that were skipped because no device was available (`--jmp-no-device skip`)."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart


class NothingTested(ReportPart):
    """In the process that prints: warns that a run without failures tested nothing on some boards."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._tests: dict[str, str] = {}

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Count a test that was skipped."""
        self._tests[report.nodeid] = record["no_device"]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the number of skipped tests, and the devices that were not available."""
        count = len(self._tests)
        tests = f"{count} tests were" if count > 1 else "1 test was"
        terminalreporter.section("jumpstarter: no device", red=True, bold=True)
        terminalreporter.write_line(
            f"{tests} skipped because no device was available: nothing was tested on "
            f"{' or '.join(dict.fromkeys(self._tests.values()))}",
            red=True,
            bold=True,
        )

"""Output about the device that is kept for people after the first failure (`--jmp-hold-on-failure`)."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.report.part import ReportPart
from pytest_jumpstarter.report.run_end import run_end


class HeldDevices(ReportPart):
    """In the process that prints: shows how to reach the devices that are held."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._lines: list[str] = []

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep the lines about a held device."""
        if held := record["held"]:
            self._lines += [f"after {report.nodeid} failed:", *(f"  {line}" for line in held)]
            words = "; ".join(" ".join(line.split()) for line in held)
            run_end(self._config).add_problem("device held", report.nodeid, "\n".join(held), reason=words)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show which devices are held and how long, how to reach them and how to release them."""
        if self._lines:
            terminalreporter.section("jumpstarter: held after a failure", yellow=True, bold=True)
        for line in self._lines:
            terminalreporter.write_line(line)

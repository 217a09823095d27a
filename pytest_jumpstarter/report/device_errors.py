"""
Output for the verdict *device error*: word, letter, summary, JUnit.

pytest shows neither a traceback nor a summary line for categories that plugins define, so both are shown here. This
runs in the process that prints. Under xdist another process holds the leases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import DeviceErrorFacts, Record, record_of
from pytest_jumpstarter.report.part import ReportPart
from pytest_jumpstarter.report.run_end import run_end

CATEGORY = "device error"

_FULL = 2


def facts_of(report: pytest.TestReport) -> DeviceErrorFacts | None:
    """Return the facts about the device error in a report; None if it has none, or if the test runs again."""
    record = record_of(report)
    return record.get("device_error") if record is not None and report.outcome == "failed" else None


class DeviceErrors(ReportPart):
    """Shows device errors."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self._reports: list[pytest.TestReport] = []
        self._junit_element: object = None

    def expect(self, report: pytest.TestReport, record: Record) -> None:  # noqa: ARG002 - the signature of all parts
        """Find the element that the JUnit plugin will write for the report."""
        self._junit_element = pytest_private.junit_element(self._config, report)

    def add(self, report: pytest.TestReport, record: Record) -> None:  # noqa: ARG002 - the signature of all parts
        """Keep a report of a device error, and correct what the JUnit plugin wrote for it."""
        if facts_of(report):
            self._reports.append(report)
            run_end(self._config).device_errors += 1
            pytest_private.junit_error(self._config, self._junit_element, CATEGORY)

    @pytest.hookimpl(tryfirst=True)  # before pytest's subtests, which return their own words
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Return category, letter and word of a device error."""
        return (CATEGORY, "D", ("DEVICE ERROR", {"red": True})) if facts_of(report) else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Show each device error with its reason, then the number of device errors for each exporter."""
        if not self._reports:
            return
        pytest_private.colour_red(terminalreporter)
        terminalreporter.section("DEVICE ERRORS", red=True, bold=True)
        for report in self._reports:
            facts = facts_of(report)
            terminalreporter.write_line(f"DEVICE ERROR {report.nodeid} ({report.when})", red=True)
            for line in _lines(facts) if facts is not None else ():
                terminalreporter.write_line(f"  {line}")
            if config.get_verbosity() >= _FULL:
                terminalreporter.write_line(str(report.longreprtext))
            _show_evidence(terminalreporter, report)
        terminalreporter.write_line("")
        for exporter, count in self._by_exporter().items():
            terminalreporter.write_line(f"{exporter}: {count} device error{'s' if count > 1 else ''}")

    def _by_exporter(self) -> dict[str, int]:
        counts: dict[str, int] = defaultdict(int)
        for report in self._reports:
            facts = facts_of(report)
            counts[(facts["exporter"] if facts is not None else "") or "no exporter assigned"] += 1
        return counts


def _show_evidence(terminalreporter: pytest.TerminalReporter, report: pytest.TestReport) -> None:
    """Show the output of consoles and exporters, in the way that pytest shows captured output."""
    record = record_of(report)
    ours = record.get("sections", []) if record is not None else []
    for title, text in report.sections:
        if title in ours and terminalreporter.config.option.showcapture != "no":
            terminalreporter.write_sep("-", title)
            terminalreporter.write_line(text)


def _lines(facts: DeviceErrorFacts) -> Iterator[str]:
    """Yield lines about a device error, and about the test's own result if that was something else."""
    lease = f" (lease {facts['lease']})" if facts["lease"] else ""
    where = f"device error on {facts['exporter']}{lease}" if facts["exporter"] else f"device error{lease}"
    yield f"{where}: {facts['reason']}"
    for number, line in enumerate(facts["test_said"].splitlines()):
        yield f"{'the test itself ended with: ' if not number else '  '}{line}"

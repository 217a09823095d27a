"""
The verdict *device error* as people and machines see it: word, letter, summary, exit code, JUnit.

pytest shows neither traceback nor summary line for a category of a plugin's own, so both are shown here. This works in
the process that prints, which under xdist is not the one that holds the leases.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.report.shown import Shown

CATEGORY = "device error"
EXIT_CODE = 8
"""pytest itself uses 0 to 5, and leaves the others to plugins."""

_FULL = 2


def facts_of(report: object) -> dict[str, Any] | None:
    """Return what is known of the device error in a report; None if it is none, or if the test runs again."""
    facts = getattr(report, "device_error", None)
    return facts if isinstance(facts, dict) and getattr(report, "outcome", "") == "failed" else None


class DeviceErrors(Shown):
    """Shows device errors, and gives a run with nothing worse its exit code."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: list[pytest.TestReport] = []
        self._junit_element: Any = None

    def expect(self, report: pytest.TestReport) -> None:
        """Find what the JUnit plugin will write for the report."""
        self._junit_element = pytest_private.junit_element(self._config, report)

    def add(self, report: pytest.TestReport) -> None:
        """Keep a report that every plugin has seen, and mend what the JUnit plugin wrote for it."""
        if facts_of(report):
            self._reports.append(report)
            pytest_private.junit_error(self._config, self._junit_element, CATEGORY)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Give a device error its letter and word."""
        return (CATEGORY, "D", ("DEVICE ERROR", {"red": True})) if facts_of(report) else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Any:
        """Exit with 8 where device errors are all that failed."""
        if exitstatus == pytest.ExitCode.TESTS_FAILED and session.testsfailed == len(self._reports):
            session.exitstatus = EXIT_CODE
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Show each device error with its reason, then how many there were on which exporter."""
        if not self._reports:
            return
        pytest_private.colour_red(terminalreporter)
        terminalreporter.section("DEVICE ERRORS", red=True, bold=True)
        for report in self._reports:
            facts = facts_of(report) or {}
            terminalreporter.write_line(f"DEVICE ERROR {report.nodeid} ({report.when})", red=True)
            terminalreporter.write_line(f"  {_where(facts)}: {facts.get('reason')}")
            if config.get_verbosity() >= _FULL:
                terminalreporter.write_line(str(report.longreprtext))
            _show_evidence(terminalreporter, report)
        terminalreporter.write_line("")
        for exporter, count in self._by_exporter().items():
            terminalreporter.write_line(f"{exporter}: {count} device error{'s' if count > 1 else ''}")

    def _by_exporter(self) -> dict[str, int]:
        counts: dict[str, int] = defaultdict(int)
        for report in self._reports:
            counts[(facts_of(report) or {}).get("exporter") or "no exporter assigned"] += 1
        return counts


def _show_evidence(terminalreporter: pytest.TerminalReporter, report: pytest.TestReport) -> None:
    """Show what the device said, as pytest does where a test fails."""
    for title, text in report.sections:
        if title in getattr(report, "evidence", []) and terminalreporter.config.option.showcapture != "no":
            terminalreporter.write_sep("-", title)
            terminalreporter.write_line(text)


def _where(facts: dict[str, Any]) -> str:
    lease = f" (lease {facts['lease']})" if facts.get("lease") else ""
    return f"device error on {facts['exporter']}{lease}" if facts.get("exporter") else f"device error{lease}"

"""In the process that prints: keeps the ledger of a run with devices, and shows its end in a short table."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.ci import Origin
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES, LEASES
from pytest_jumpstarter.evidence.record import Kept, Record
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.report.part import ReportPart
from pytest_jumpstarter.report.run_data import ExporterData
from pytest_jumpstarter.report.run_record import RunRecord

_NAME = 30  # characters of an exporter's name, so that the table fits into 80
_HEAD = ("exporter", "tests", "device errors", "queued", "held", "busy")


class SummaryTable(ReportPart):
    """
    Takes in what the reports tell of devices.

    Attributes:
        ledger: What is known.
        origin: Where the run comes from.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self.ledger = RunRecord()
        self._kept: list[Kept] = []
        self.origin = Origin.of(os.environ, config.rootpath)

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Take in the report of a test that uses a device."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        category = status[0] if status else _category(report)
        self.ledger.add(report, record, category)
        if record is not None and "artifacts" in record:
            self._kept.append(record["artifacts"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in the last word of an xdist worker; one that crashed has none."""
        self.ledger.add_leases(getattr(node, "workeroutput", {}).get(LEASES, []))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:  # noqa: ARG002 - for heirs
        """Take in what came after the last report, where this process had the leases itself."""
        for name, value in (versions() | self.origin._asdict()).items():
            if value:
                pytest_private.junit_suite_property(self._config, f"jumpstarter.{name}", value)
        result = yield
        if (lease_times := self._config.stash.get(LEASE_TIMES, None)) is not None:
            self.ledger.add_leases(lease_times.take_news())
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show how much each exporter did; nothing in a run without devices, or with `-q`."""
        exporters = self.ledger.exporters()
        if not exporters or self._config.get_verbosity() < 0:
            return
        rows = [_HEAD, *(_row(each) for each in exporters)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        terminalreporter.section("jumpstarter")
        for name, *numbers in rows:
            cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
            terminalreporter.write_line("  ".join([name.ljust(widths[0]), *cells]))
        if self._kept:
            count = f"{len(self._kept)} tests" if len(self._kept) > 1 else "1 test"
            terminalreporter.write_line(f"jumpstarter artifacts of {count}: {self._kept[0]['root']}")


def _row(each: ExporterData) -> tuple[str, ...]:
    name = each["exporter"] or ("(no exporter)" if not each["held_seconds"] else "(unknown)")
    return (
        name if len(name) <= _NAME else f"{name[: _NAME - 1]}…",
        str(each["tests"]),
        str(each["device_errors"]),
        format_duration(each["queued_seconds"]),
        format_duration(each["held_seconds"]),
        f"{each['busy_percent']}%",
    )


def _category(report: pytest.TestReport) -> str:
    """Return what the terminal would call the report, where there is no terminal."""
    return "error" if report.failed and report.when != "call" else report.outcome

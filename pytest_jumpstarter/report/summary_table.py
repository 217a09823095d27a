"""In the process that prints: fills the `RunRecord` of a run with devices, and shows a short table at the end."""

from __future__ import annotations

import os
from collections.abc import Generator

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

_NAME = 30  # characters of an exporter's name at most, so that the table fits into 80 columns
_HEADER = ("exporter", "tests", "device errors", "queued", "held", "busy")


class SummaryTable(ReportPart):
    """
    Collects what the reports say about devices.

    Attributes:
        run_record: What happened so far.
        origin: Commit, build and job of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self.run_record = RunRecord()
        self._kept: list[Kept] = []
        self.origin = Origin.of(os.environ, config.rootpath)

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Add the report of a test that uses a device."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        category = status[0] if status else _category(report)
        self.run_record.add(report, record, category)
        if record is not None and "artifacts" in record:
            self._kept.append(record["artifacts"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Add what an xdist worker sent at its end; a worker that crashed sent nothing."""
        self.run_record.add_leases(getattr(node, "workeroutput", {}).get(LEASES, []))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:  # noqa: ARG002 - for heirs
        """Take in what came after the last report, where this process had the leases itself."""
        for name, value in (versions() | self.origin._asdict()).items():
            if value:
                pytest_private.junit_suite_property(self._config, f"jumpstarter.{name}", value)
        result = yield
        if (lease_times := self._config.stash.get(LEASE_TIMES, None)) is not None:
            self.run_record.add_leases(lease_times.take_news())
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what each exporter did; nothing in a run without devices, or with `-q`."""
        exporters = self.run_record.exporters()
        if not exporters or self._config.get_verbosity() < 0:
            return
        rows = [_HEADER, *(_row(each) for each in exporters)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
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
    """Return the category that pytest's terminal gives the report, for a run without terminal (`-p no:terminal`)."""
    return "error" if report.failed and report.when != "call" else report.outcome

"""In the process that prints: what each exporter did in a run, as a short table at the end."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES, LEASES
from pytest_jumpstarter.evidence.record import Kept, Record
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.leasing.origin import Origin
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.report.exporter_use import ExporterUse
from pytest_jumpstarter.report.part import ReportPart
from pytest_jumpstarter.report.run_data import ExporterData

_NAME = 30  # characters of an exporter's name at most, so that the table fits into 80 columns
_HEADER = ("exporter", "tests", "device errors", "queued", "held", "busy")


class SummaryTable(ReportPart):
    """
    Collects what the reports say about devices.

    Attributes:
        use: What each exporter did so far.
        origin: Commit, build and job of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self.use = ExporterUse()
        self._kept: list[Kept] = []
        self.origin = Origin.of(os.environ, config.rootpath)

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Add the report of a test that uses a device."""
        if record is not None:
            self.use.add(report, record)
        self.keep(record)

    def keep(self, record: Record | None) -> None:
        """Note the folder of evidence of a test."""
        if record is not None and "artifacts" in record:
            self._kept.append(record["artifacts"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Add what an xdist worker sent at its end; a worker that crashed sent nothing."""
        self.use.add_leases(getattr(node, "workeroutput", {}).get(LEASES, []))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:  # noqa: ARG002 - subclasses use it
        """Add the properties of the run to the JUnit file, and take in what came after the last report."""
        facts = versions() | self.origin._asdict() | {"adopted": "; ".join(self.use.adopted())}
        for name, value in facts.items():
            if value:
                pytest_private.junit_suite_property(self._config, f"jumpstarter.{name}", safe(value))
        result = yield
        self._take_news()
        return result

    def _take_news(self) -> None:
        """Take in what came after the last report, where this process had the leases itself."""
        if (lease_times := self._config.stash.get(LEASE_TIMES, None)) is not None:
            self.use.add_leases(lease_times.take_news())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what each exporter did; nothing in a run without devices, or with `-q`."""
        exporters = self.use.exporters()
        if not exporters or self._config.get_verbosity() < 0:
            return
        rows = [_HEADER, *(_row(each) for each in exporters)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        terminalreporter.section("jumpstarter")
        for name, *numbers in rows:
            cells = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
            terminalreporter.write_line("  ".join([name.ljust(widths[0]), *cells]))
        for lease in self.use.adopted():
            terminalreporter.write_line(f"jumpstarter adopted, and did not release: {lease}")
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

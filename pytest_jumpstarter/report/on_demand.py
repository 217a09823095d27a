"""
`ReportParts`: the parts that show the records on the reports of tests, in the process that prints.

Each part is made when the first report contains something for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest

from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.report.part import SUMMARY_TABLE, ReportPart
from pytest_jumpstarter.settings import SETTINGS

T = TypeVar("T", bound="ReportPart")


class ReportParts:
    """The parts, in the order in which they get a report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._made: dict[type[ReportPart], ReportPart] = {}
        self._has_json = bool(config.getoption("json_report", default=False))

    def show(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Pass a report to the parts that it contains something for, before and after every other plugin."""
        record = record_of(report)
        parts = list(self._parts(record)) if record is not None else []
        for part in parts:
            part.expect(report, record)  # type: ignore[arg-type]  # without a record there are no parts
        result = yield
        for part in parts:
            part.add(report, record)  # type: ignore[arg-type]
        return result

    def _parts(self, record: Record) -> Iterator[ReportPart]:
        if "device_error" in record:
            from pytest_jumpstarter.report.device_errors import DeviceErrors

            yield self._get(DeviceErrors)
        if "held" in record:
            from pytest_jumpstarter.report.held_devices import HeldDevices

            yield self._get(HeldDevices)
        if "retried" in record:
            from pytest_jumpstarter.report.retried import Retried

            yield self._get(Retried)
        if "no_device" in record:
            from pytest_jumpstarter.report.nothing_tested import NothingTested

            yield self._get(NothingTested)
        yield self._summary_table()
        if self._has_json:
            from pytest_jumpstarter.report.json_report import JsonReport

            yield self._get(JsonReport)
        if "sections" in record or "artifacts" in record:
            from pytest_jumpstarter.report.junit_output import JunitOutput

            yield self._get(JunitOutput)

    def _summary_table(self) -> ReportPart:
        if (found := self._config.stash.get(SUMMARY_TABLE, None)) is None:
            found = self._config.stash[SUMMARY_TABLE] = self._get(self._kind_of_table())
        return found

    def _kind_of_table(self) -> type[ReportPart]:
        """Return a table that keeps what happened in each test only if somebody will read that."""
        if self._config.stash[SETTINGS].find("history") is not None:
            from pytest_jumpstarter.report.recorded_table import RecordedTable

            return RecordedTable
        from pytest_jumpstarter.report.summary_table import SummaryTable

        return SummaryTable

    def _get(self, kind: type[T]) -> T:
        """Return the part of this class; the first call makes and registers it."""
        if kind not in self._made:
            self._made[kind] = part = kind(self._config)
            self._config.pluginmanager.register(part, f"jumpstarter-{kind.__name__}")
        found = self._made[kind]
        assert isinstance(found, kind)
        return found

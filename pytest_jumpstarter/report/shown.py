"""
Who shows what the records on the reports of tests tell, in the process that prints.

Each part is made when the first report has something for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest

from pytest_jumpstarter.evidence.record import Record, record_of

T = TypeVar("T", bound="Shown")
BOOKKEEPER = pytest.StashKey["Shown"]()
"""What sums up the reports; `--jmp-report` brings its own, which takes in the reports of all tests."""


class Shown(ABC):
    """Is told of each report that has something to show, before and after every other plugin sees it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def expect(self, report: pytest.TestReport, record: Record) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare for what other plugins make of `report`."""

    @abstractmethod
    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Keep `report`, or what is to be shown of it."""


class Shows:
    """The parts, in the order in which they see a report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._made: dict[type[Shown], Shown] = {}

    def show(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Hand a report to the parts that have something to show of it, before and after every other plugin."""
        record = record_of(report)
        parts = list(self._parts(record)) if record is not None else []
        for part in parts:
            part.expect(report, record)  # type: ignore[arg-type]  # there are parts only where there is a record
        result = yield
        for part in parts:
            part.add(report, record)  # type: ignore[arg-type]
        return result

    def _parts(self, record: Record) -> Iterator[Shown]:
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
            from pytest_jumpstarter.report.no_device import NothingTested

            yield self._get(NothingTested)
        yield self._bookkeeper()
        if "sections" in record:
            from pytest_jumpstarter.report.junit_output import JunitOutput

            yield self._get(JunitOutput)

    def _bookkeeper(self) -> Shown:
        if (found := self._config.stash.get(BOOKKEEPER, None)) is None:
            from pytest_jumpstarter.report.bookkeeper import Bookkeeper

            found = self._config.stash[BOOKKEEPER] = self._get(Bookkeeper)
        return found

    def _get(self, kind: type[T]) -> T:
        """Return the part of a kind, made and registered at the first call."""
        if kind not in self._made:
            self._made[kind] = part = kind(self._config)
            self._config.pluginmanager.register(part, f"jumpstarter-{kind.__name__}")
        found = self._made[kind]
        assert isinstance(found, kind)
        return found

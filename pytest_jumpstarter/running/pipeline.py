"""
`Pipeline`: what becomes of the report of each phase of a test, step by step, in the order of the code below.

All that is found out is one record, `report.jumpstarter` (evidence/record.py), and sections of the report. The steps
come after those of all other plugins, so that none changes the outcome afterwards; only what must keep other plugins
from running a test again comes before them.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import RECORD_FORMAT, devices_of
from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.running.current_test import CurrentTest, attempt_of
from pytest_jumpstarter.running.interrupt import give_lines
from pytest_jumpstarter.running.verdict import Verdicts, facts_of, what_the_test_said

if TYPE_CHECKING:
    from pytest_jumpstarter.evidence.artifacts import Artifacts
    from pytest_jumpstarter.evidence.lease_times import LeaseTimesRecorder
    from pytest_jumpstarter.evidence.masked import Masked
    from pytest_jumpstarter.evidence.sections import Sections
    from pytest_jumpstarter.evidence.short_errors import ShortErrors
    from pytest_jumpstarter.running.device_fixtures import DeviceFixtures
    from pytest_jumpstarter.running.hold_on_failure import HoldOnFailure
    from pytest_jumpstarter.running.retries import Retries
    from pytest_jumpstarter.running.run import Run
    from pytest_jumpstarter.running.skip_without_device import DeviceSkips

_HAS_VERDICT = pytest.StashKey[bool]()


class Pipeline:
    """
    Makes our part of each report.

    Args:
        worker: The name of this process among those that test.
        test: Knows the test that runs.
        The others: The steps; None where a run does without one.
    """

    def __init__(
        self,
        run: Run,
        worker: str,
        test: CurrentTest,
        fixtures: DeviceFixtures,
        *,
        short_errors: ShortErrors,
        verdicts: Verdicts,
        retries: Retries | None,
        skips: DeviceSkips | None,
        hold: HoldOnFailure | None,
        sections: Sections,
        lease_times: LeaseTimesRecorder,
        artifacts: Artifacts | None,
        masked: Masked,
    ) -> None:
        self._run = run
        self._worker = worker
        self._test = test
        self._fixtures = fixtures
        self._short_errors = short_errors
        self._verdicts = verdicts
        self._retries = retries
        self._skips = skips
        self._hold = hold
        self._sections = sections
        self._lease_times = lease_times
        self._artifacts = artifacts
        self._masked = masked
        self._fault: DeviceError | None = None
        self._has_warned = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin anew; end a test at once whose device is lost already, with the reason of the loss."""
        item.stash[_HAS_VERDICT] = False  # a plugin may run the test again
        self._sections.begin()
        self._lease_times.begin()
        if self._artifacts is not None:
            self._artifacts.begin()
        self._fixtures.check_present(item, devices_of(item).planned)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """End a test again whose setup failed for want of a device, where a plugin goes on to the call all the same."""
        if isinstance(error := self._test.setup_error, DeviceError):
            raise error.with_traceback(None)

    @pytest.hookimpl(specname="pytest_runtest_makereport")
    def pytest_runtest_makereport_with_lines(self, call: pytest.CallInfo[None]) -> None:
        """Mend an error without a line: after unittest's plugin has put its own there, before pytest shows it."""
        if call.excinfo is not None:
            give_lines(call.excinfo)

    @pytest.hookimpl(specname="pytest_runtest_makereport", wrapper=True, trylast=True)
    def pytest_runtest_makereport_first(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Find the fault, before a plugin that runs failed tests again sees the failure."""
        report = yield
        self._fault = self._verdicts.find(item, call, is_ending=bool(self._run.stop.received))
        if self._fault is not None and self._retries is not None:
            self._retries.keep_from_others(item)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take the steps."""
        report = yield
        fault = self._fault
        if self._test.was_repeated(call):
            fault = self._verdicts.find(item, call, is_ending=bool(self._run.stop.received))
        else:
            self._short_errors.shorten(item, call, report)
        record: Record = {"format": RECORD_FORMAT, "worker": self._worker, "attempt": attempt_of(item), "devices": []}
        if fault is not None:
            self._condemn(item, call, report, record, fault)
        if self._retries is not None:
            self._retries.decide(item, call, report, record, fault)
        if self._skips is not None:
            self._skips.mark(call, report, record)
        if self._hold is not None:
            self._hold.see(item, call, report, record)
        self._sections.add(item, call, report, record, self._test.phases)
        self._lease_times.add(item, call, report, record)
        if self._artifacts is not None:
            self._artifacts.keep(item, call, report, record)
        self._put(report, record)
        self._masked.mask(report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hold the device if the test has failed for good."""
        if self._hold is not None:
            self._hold.decide(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Mend the error of a signal that came to a place without a line."""
        give_lines(excinfo)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Keep the evidence of a test that a signal ended."""
        if self._artifacts is not None and self._test.item is not None:
            self._artifacts.keep_interrupted(self._test.item)

    def _condemn(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        record: Record,
        fault: DeviceError,
    ) -> None:
        """Make a report that of a device error; in the teardown of a test that has one already it joins that."""
        if call.when == "teardown" and item.stash.get(_HAS_VERDICT, False):
            if report.failed:
                report.sections.append(("device error in teardown", str(fault)))
                report.outcome, report.longrepr = "passed", None
            return
        item.stash[_HAS_VERDICT] = True
        record["device_error"] = facts_of(fault, what_the_test_said(report, self._test.error(call), fault))
        if call.excinfo is None or (not report.failed and not hasattr(report, "wasxfail")):
            report.longrepr = f"{type(fault).__name__}: {fault}"
        report.outcome = "failed"
        if hasattr(report, "wasxfail"):
            del report.wasxfail

    def _put(self, report: pytest.TestReport, record: Record) -> None:
        """Put the record on the report if there is anything in it; ours wins over what another plugin put there."""
        if not record["devices"] and record.keys() <= Record.__required_keys__:
            return
        there = getattr(report, "jumpstarter", None)
        if there is not None and record_of(report) is None and not self._has_warned:
            self._has_warned = True
            text = (
                f"a plugin or conftest.py set report.jumpstarter to {there!r}; on tests with a device this attribute "
                "holds the record of pytest-jumpstarter, so choose another name"
            )
            try:
                warnings.warn(pytest.PytestWarning(text), stacklevel=2)
            except pytest.PytestWarning:  # warnings are errors, and an error here would end the run
                report.sections.append(("jumpstarter", text))
        report.jumpstarter = record  # type: ignore[attr-defined]  # reports carry what plugins add

"""
`Pipeline`: changes the report of each phase of a test, step by step, in the order of the code below.

The results are a record, `report.jumpstarter` (evidence/record.py), and sections of the report. The steps run after all
other plugins, so that no other plugin changes the outcome afterwards. Only one step runs before them: it keeps other
plugins from rerunning a test after a device error.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.evidence.call_hints import add_hint
from pytest_jumpstarter.evidence.metrics import add_metrics
from pytest_jumpstarter.evidence.named_devices import name_devices
from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.evidence.safe_records import SafeRecords, is_plain
from pytest_jumpstarter.host.real_files import real_files
from pytest_jumpstarter.roles import RECORD_FORMAT
from pytest_jumpstarter.running.current_test import CurrentTest, attempt_of
from pytest_jumpstarter.running.interrupt import give_lines
from pytest_jumpstarter.running.verdict import Verdicts, facts_of, what_the_test_said

if TYPE_CHECKING:
    from pytest_jumpstarter.evidence.allure_results import AllureResults
    from pytest_jumpstarter.evidence.artifacts import Artifacts
    from pytest_jumpstarter.evidence.lease_times import LeaseTimesRecorder
    from pytest_jumpstarter.evidence.safe_reports import SafeReports
    from pytest_jumpstarter.evidence.sections import Sections
    from pytest_jumpstarter.evidence.short_errors import ShortErrors
    from pytest_jumpstarter.evidence.state_times import StateTimesRecorder
    from pytest_jumpstarter.evidence.transfer_facts import TransferRecorder
    from pytest_jumpstarter.running.device_fixtures import DeviceFixtures
    from pytest_jumpstarter.running.hold_on_failure import HoldOnFailure
    from pytest_jumpstarter.running.retries import Retries
    from pytest_jumpstarter.running.run import Run
    from pytest_jumpstarter.running.skip_without_device import DeviceSkips

_HAS_VERDICT: pytest.StashKey[bool] = pytest.StashKey()


class Pipeline:
    """
    Adds our part to each report.

    Args:
        worker: The name of this process: that of the xdist worker, or `main`.
        test: Knows the test that runs.
        The other arguments: The steps; None for a step that this run does not need.
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
        transfers: TransferRecorder,
        state_times: StateTimesRecorder | None,
        artifacts: Artifacts | None,
        safe_reports: SafeReports,
        allure: AllureResults | None,
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
        self._transfers = transfers
        self._state_times = state_times
        self._artifacts = artifacts
        self._safe_reports = safe_reports
        safe_reports.is_alone = False
        self._records = SafeRecords()
        self._allure = allure
        self._fault: DeviceError | None = None
        self._has_warned = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start a test; if its device is lost already, end it at once with the reason of the loss."""
        item.stash[_HAS_VERDICT] = False  # the last attempt may have had a verdict
        self._sections.begin()
        self._lease_times.begin()
        if self._artifacts is not None:
            self._artifacts.begin()
        self._fixtures.check_present(item, devices_of(item).planned)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Raise the device error of the setup again, if another plugin runs the call in spite of it."""
        if isinstance(error := self._test.setup_error, DeviceError):
            raise error.with_traceback(None)

    @pytest.hookimpl(specname="pytest_runtest_makereport")
    def pytest_runtest_makereport_with_lines(self, call: pytest.CallInfo[None]) -> None:
        """
        Add missing line numbers and hints to the error.

        This is after pytest's unittest plugin has set it, and before pytest reads it.
        """
        if call.excinfo is not None:
            give_lines(call.excinfo)
            with real_files():
                add_hint(call.excinfo.value)

    @pytest.hookimpl(specname="pytest_runtest_makereport", wrapper=True, trylast=True)
    def pytest_runtest_makereport_first(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Find the fault before a plugin that reruns failed tests gets the report."""
        report = yield
        self._fault = self._verdicts.find(item, call, is_ending=bool(self._run.stop.received))
        if self._fault is not None and self._retries is not None:
            self._retries.prevent_other_reruns(item)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Take the steps."""
        report = yield
        with real_files():
            self._take_steps(item, call, report)
        return report

    def _take_steps(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        fault = self._fault
        if self._test.was_repeated(call):
            fault = self._verdicts.find(item, call, is_ending=bool(self._run.stop.received))
        else:
            self._short_errors.shorten(item, call, report)
        record: Record = {"format": RECORD_FORMAT, "worker": self._worker, "attempt": attempt_of(item), "devices": []}
        if fault is not None:
            self._make_device_error(item, call, report, record, fault)
        if self._retries is not None:
            self._retries.decide(item, call, report, record, fault)
        if self._skips is not None:
            self._skips.mark(call, report, record)
        if self._hold is not None:
            self._hold.see(item, call, report, record)
        self._sections.add(item, call, report, record, self._test.phases)
        self._lease_times.add(item, call, record)
        self._transfers.add(record)
        if self._state_times is not None:
            self._state_times.add(record)
        name_devices(report, record)
        add_metrics(item, record)
        if self._artifacts is not None:
            self._artifacts.keep(item, call, report, record)
        has_text = bool(report.longrepr or report.sections or report.user_properties) or not is_plain(record)
        self._run.lab_access.learn_tokens(is_urgent=has_text)
        self._safe_reports.make_fields_safe(report)
        self._attach(report, record)
        if self._allure is not None and (shown := record_of(report)) is not None:
            self._allure.add(report, shown)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hold the device if the test failed and will not be rerun."""
        if self._hold is not None:
            self._hold.decide(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Add missing line numbers to the error that a signal handler raised."""
        give_lines(excinfo)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Keep the evidence of a test that a signal ended."""
        if self._artifacts is not None and self._test.item is not None:
            self._artifacts.keep_interrupted(self._test.item)

    def _make_device_error(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        record: Record,
        fault: DeviceError,
    ) -> None:
        """
        Turn a report into that of a device error.

        If the test has a device error already, the failure of its teardown becomes a section of a passed report.
        """
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

    def _attach(self, report: pytest.TestReport, record: Record) -> None:
        """
        Add the record to the report, made safe, and the properties of its devices; nothing if it is empty.

        It replaces what another plugin stored under its name.
        """
        if not record["devices"] and is_plain(record):
            return
        found = getattr(report, "jumpstarter", None)
        if found is not None and record_of(report) is None and not self._has_warned:
            self._has_warned = True
            text = (
                f"a plugin or conftest.py set report.jumpstarter to {found!r}; on tests with a device this attribute "
                "holds the record of pytest-jumpstarter, so choose another name"
            )
            try:
                warnings.warn(pytest.PytestWarning(text), stacklevel=2)
            except pytest.PytestWarning:  # with `-W error`; an error here would end the run
                report.sections.append(("jumpstarter", text))
        report.jumpstarter = self._records.safe(record)  # type: ignore[attr-defined]  # plugins may add attributes to reports
        if record["devices"]:
            report.user_properties.extend(self._records.properties)
            for device in record["devices"]:
                seconds = self._lease_times.hold_seconds(device["role"])
                report.user_properties.append((f"jumpstarter.{device['role']}.hold_seconds", seconds))

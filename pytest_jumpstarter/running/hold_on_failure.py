"""
Keeps the device of the first failed test for people (`--jmp-hold-on-failure`).

The record of the report contains lines that say how to reach the device (`held`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import JumpstarterError
from pytest_jumpstarter.evidence.record import Record, record_of

if TYPE_CHECKING:
    from pytest_jumpstarter.running.run import Run


class HoldOnFailure:
    """
    In the process that leases: keeps the device of the first failed test, and ends the run.

    A failure is noticed when its report is made, before the device is released. It counts only when the report is
    logged, because a plugin that reruns failed tests may turn it into a rerun before that.

    Args:
        duration: How long to hold the device, in seconds.
    """

    def __init__(self, run: Run, duration: float) -> None:
        self._run = run
        self._duration = duration
        self._session: pytest.Session | None = None
        self._failed: pytest.TestReport | None = None
        self._is_done = False

    def see(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Notice the failure of a test, and postpone the release of its device until the report is logged."""
        if self._failed is not None and call.when == "setup":  # the report was never logged
            self._release()
        is_first = self._failed is None and not self._is_done and not self._run.stop.received
        is_failure = "device_error" not in record and _is_test_failure(report, call)
        if is_first and is_failure and self._run.sets.postpone(devices_of(item).roles):
            self._session, self._failed = item.session, report
            record["held"] = []

    def decide(self, report: pytest.TestReport) -> None:
        """When the report is logged: hold the device and end the run, unless the test will be rerun."""
        if report is not self._failed or self._session is None:
            return
        if report.outcome != "failed":
            self._release()
            return
        held = self._run.reserve(self._duration)
        self._failed, self._is_done = None, held.is_any
        if (record := record_of(report)) is not None:
            record["held"] = held.lines
        if held.is_any:
            self._session.shouldfail = "the device of a failed test is held (--jmp-hold-on-failure)"

    def _release(self) -> None:
        self._failed = None
        self._run.sets.end_postponed()


def _is_test_failure(report: pytest.TestReport, call: pytest.CallInfo[None]) -> bool:
    """Return whether a report is a test failure, rather than a device error or a configuration error."""
    is_ours = call.excinfo is not None and isinstance(call.excinfo.value, JumpstarterError)
    return report.failed and not is_ours

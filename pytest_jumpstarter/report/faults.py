"""
In the process that holds the leases: which failures are the lab's, and tests that need not be tried.

What is found is put on the test's report as `report.device_error`, plain data that travels between processes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.report.verdict import device_error

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.health import Health

_HAS_VERDICT = pytest.StashKey[bool]()


class Faults:
    """
    Finds the lab's faults among the failures of tests.

    Attributes:
        current: The test that runs at this moment, or None.
        healths: The state of each role's device.
    """

    def __init__(self, current: pytest.Item | None) -> None:
        self.current = current
        self.healths: Mapping[str, Health] = {}
        self._start = 0.0  # we come in the middle of a setup

    def uses(self, item: pytest.Item, role: str) -> bool:
        """Tell whether the test asks for the device of `role`, itself or through its fixtures."""
        return role in getattr(item, "fixturenames", ())

    def roles_of(self, item: pytest.Item) -> list[str]:
        """Return the roles of the devices that the test asks for."""
        return [role for role in self.healths if self.uses(item, role)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """End a test at once whose device is lost already, with the reason of the loss."""
        self.current, self._start = item, time.monotonic()
        item.stash[_HAS_VERDICT] = False  # a plugin may run the test again
        for health in self._healths(item).values():
            if health.loss is not None and not health.is_retired:
                raise health.loss.with_traceback(None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, None, None]:
        """Note that the test is over."""
        try:
            return (yield)
        finally:
            self.current = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mark the report of a failure that is the lab's; a later one of the same test joins the first."""
        report = yield
        if call.excinfo is None or not report.failed:
            return report
        fault = self.find(item, call)
        if fault is None:
            return report
        if call.when == "teardown" and item.stash.get(_HAS_VERDICT, False):
            report.sections.append(("device error in teardown", str(fault)))
            report.outcome, report.longrepr = "passed", None
            return report
        item.stash[_HAS_VERDICT] = True
        report.device_error = facts(fault)  # type: ignore[attr-defined]  # reports carry what plugins add
        return report

    def find(self, item: pytest.Item, call: pytest.CallInfo[None]) -> DeviceError | None:
        """Return the fault of the lab that ended a phase of a test, or None if it is none."""
        assert call.excinfo is not None
        error = call.excinfo.value
        fault = device_error(error, self._healths(item).values(), self._start)
        if fault is None and not isinstance(error, AssertionError):
            reason = item.config.hook.pytest_jumpstarter_classify_error(error=error, item=item)
            fault = DeviceError(reason) if reason else None
        return fault

    def _healths(self, item: pytest.Item) -> dict[str, Health]:
        return {role: health for role, health in self.healths.items() if self.uses(item, role)}


def facts(fault: DeviceError) -> dict[str, Any]:
    """Return what is known of the fault, as plain data."""
    return {"reason": str(fault), "kind": type(fault).__name__, "exporter": fault.exporter, "lease": fault.lease}

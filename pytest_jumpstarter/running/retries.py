"""
Runs a test again after a device error, on another exporter if one matches (`--jmp-retries`).

The report of the first attempt becomes a *rerun*. Other plugins that rerun failed tests must not rerun it as well.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
from pytest_jumpstarter.evidence.record import Record

if TYPE_CHECKING:
    from pytest_jumpstarter.running.device_fixtures import DeviceFixtures
    from pytest_jumpstarter.running.run import Run
    from pytest_jumpstarter.settings import Settings

_RETRIES: pytest.StashKey[int] = pytest.StashKey()
_RERUN_PLUGINS = ("rerunfailures", "pytest-retry")
PROPERTY = "jumpstarter.retried"


class Retries:
    """
    Runs tests again after device errors.

    Args:
        fixtures: Knows the device fixtures that are set up.
    """

    def __init__(self, run: Run, settings: Settings, fixtures: DeviceFixtures) -> None:
        self._run = run
        self._settings = settings
        self._limit: int = settings["retries"].value
        self._fixtures = fixtures
        self._rerun: pytest.TestReport | None = None
        self._exporter = self._reason = ""  # the device error after which the test runs again

    def run_again(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test again if its last attempt was a rerun; its devices are set up again."""
        rerun, self._rerun = self._rerun, None
        if rerun is None or str(rerun.outcome) != "rerun":
            return False
        item.stash[_RETRIES] = item.stash.get(_RETRIES, 0) + 1
        if self._exporter:
            self._run.choice.blame(self._exporter)
        self._fixtures.tear_down_lost(self._run, devices_of(item).roles)
        pytest_private.forget_instance(item)
        try:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        finally:
            self._run.choice.forgive()
        return True

    def decide(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        record: Record,
        fault: DeviceError | None,
    ) -> None:
        """Turn a device error into a rerun if the test may run again; a failed teardown after it does not count."""
        if call.when == "teardown" and self._rerun is not None:
            self._end_attempt(report, record)
            return
        is_rerun = fault is not None and call.when != "teardown" and self._may_retry(item, fault)
        if is_rerun or (self._reason and (call.when == "call" or report.failed or self._exporters(item))):
            self._add_line(item, record)
        if fault is not None and is_rerun:
            report.outcome = "rerun"  # type: ignore[assignment]  # the outcome that pytest-rerunfailures introduced
            self._rerun, self._reason = report, _first_line(fault)
            self._exporter = fault.exporter or self._exporters(item)
            if not item.config.getoption("usepdb", default=False):
                call.excinfo = None  # so that editors do not get the error as the result of the test

    def prevent_other_reruns(self, item: pytest.Item) -> None:
        """Add the marker by which other plugins do not rerun this test: only this plugin reruns after device errors."""
        if any(item.config.pluginmanager.hasplugin(name) for name in _RERUN_PLUGINS):
            item.add_marker(pytest.mark.flaky(reruns=0, condition=False), append=False)

    def pause(self) -> None:
        """Keep the run open during the teardown of a test that runs again, even if it is the last one."""
        self._run.is_paused = self._rerun is not None

    def _may_retry(self, item: pytest.Item, fault: DeviceError) -> bool:
        """Return whether the test may run again, with another device or with the same one in a new lease."""
        if self._run.stop.received or item.session.shouldstop or item.stash.get(_RETRIES, 0) >= self._limit:
            return False
        roles = devices_of(item).roles
        is_fixed = not self._run.has_leases or any(self._settings.find("lease", role) for role in roles)
        return bool(roles) and not is_fixed and not isinstance(fault, LeaseTimeout)  # a timed-out wait is not retried

    def _end_attempt(self, report: pytest.TestReport, record: Record) -> None:
        """End a superseded attempt: a failure of its teardown becomes a section of a passed report."""
        if report.failed:
            report.sections.append(("in the teardown after the device error", report.longreprtext))
            report.outcome, report.longrepr = "passed", None
            record.pop("device_error", None)
        record["retried"], record["is_superseded"] = [], True
        self._run.is_paused = False

    def _add_line(self, item: pytest.Item, record: Record) -> None:
        """Add to the first report of the new attempt a line about where the test ran and where it runs now."""
        lines = []
        if self._reason:
            words = f"{self._exporter or 'no exporter'} ({self._reason}) -> {self._exporters(item) or 'no exporter'}"
            item.user_properties.append((PROPERTY, words))
            lines.append(f"retried: {item.name} on {words}")
            self._reason = ""
        record["retried"] = lines

    def _exporters(self, item: pytest.Item) -> str:
        """Return the names of the exporters of the test's devices."""
        healths = self._run.healths
        devices = [healths[role].device for role in devices_of(item).roles if role in healths]
        return ", ".join(device.exporter.name for device in devices if device is not None)


class RetriedProtocol:
    """
    Runs the protocol of a test again.

    It is registered before the run starts, because the run starts within the protocol of a test.

    Attributes:
        retries: Decides whether a test runs again; None before the run starts.
    """

    def __init__(self) -> None:
        self.retries: Retries | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Run the test, and again after a device error."""
        marks = list(item.own_markers)
        result = yield
        item.own_markers[:] = marks
        if self.retries is not None and self.retries.run_again(item, nextitem):
            return True
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Keep the run open if the test runs again."""
        if self.retries is not None:
            self.retries.pause()


RETRIED_PROTOCOL: pytest.StashKey[RetriedProtocol] = pytest.StashKey()


def _first_line(fault: DeviceError) -> str:
    """Return the reason without the output of a hook, which may follow in more lines."""
    return str(fault).partition("\n")[0]

"""
A test that a device error ended runs again, on another exporter where one matches (`--jmp-retries`).

Registered only where asked for. The first attempt's report becomes a *rerun* before any other plugin sees a failure in
it, so that one which runs failed tests again leaves it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.errors import DeviceError, LeaseTimeout

if TYPE_CHECKING:
    from pytest_jumpstarter.live import LiveFixtures
    from pytest_jumpstarter.report.faults import Faults
    from pytest_jumpstarter.run import Run
    from pytest_jumpstarter.settings import Settings

_ATTEMPTS = pytest.StashKey[int]()
PROPERTY = "jumpstarter.retried"


class Retries:
    """
    Runs tests again after device errors.

    Args:
        roles: The names of all device fixtures.
        live: Knows the fixtures that are alive.
    """

    def __init__(self, settings: Settings, roles: Collection[str], live: LiveFixtures) -> None:
        self._settings = settings
        self._limit: int = settings["retries"].value
        self._roles = roles
        self._run: Run | None = None
        self._faults: Faults | None = None
        self._live = live
        self._rerun: pytest.TestReport | None = None
        self._exporter = self._reason = ""  # of the device error after which the test runs again

    def join(self, run: Run, faults: Faults) -> None:
        """Take note of the run, which begins with the first device."""
        self._run, self._faults = run, faults

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Run the test; after a device error make its devices anew, and run it again."""
        self._rerun = None
        marks = list(item.own_markers)
        result = yield
        item.own_markers[:] = marks
        rerun, self._rerun = self._rerun, None
        if rerun is None or rerun.outcome != "rerun" or self._run is None:
            return result
        item.stash[_ATTEMPTS] = item.stash.get(_ATTEMPTS, 0) + 1
        self._rebuild(item)
        try:
            return item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        finally:
            self._run.choice.forgive()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Make a rerun of a device error; what fails in the teardown after it belongs to it."""
        report = yield
        if call.when == "teardown" and self._rerun is not None:
            self._end_attempt(report)
            return report
        fault = self._faults.find(item, call) if self._faults is not None and report.failed else None
        is_rerun = fault is not None and call.when != "teardown" and self._may_retry(item, fault)
        if self._reason or is_rerun:
            self._tell(item, report)
        if fault is not None:
            self._keep_from_others(item)
        if fault is not None and is_rerun:
            report.outcome = "rerun"  # type: ignore[assignment]  # the word that pytest-rerunfailures introduced
            self._rerun, self._exporter, self._reason = (
                report,
                fault.exporter or self._exporters(item),
                _first_line(fault),
            )
        return report

    def _may_retry(self, item: pytest.Item, fault: DeviceError) -> bool:
        """Tell whether another device, or the same anew, may be had."""
        assert self._run is not None
        if self._run.received or item.session.shouldstop or item.stash.get(_ATTEMPTS, 0) >= self._limit:
            return False
        roles = self._roles_of(item)
        is_given = not self._run.has_leases or any(self._settings.find("lease", role) for role in roles)
        return bool(roles) and not is_given and not isinstance(fault, LeaseTimeout)  # waited for long enough

    def _roles_of(self, item: pytest.Item) -> list[str]:
        assert self._faults is not None
        return [role for role in self._roles if self._faults.uses(item, role)]

    def _keep_from_others(self, item: pytest.Item) -> None:
        """Tell pytest-rerunfailures, by its own marker, not to run the test again: device errors are ours."""
        if item.config.pluginmanager.hasplugin("rerunfailures"):
            item.add_marker(pytest.mark.flaky(reruns=0, condition=False), append=False)

    def _end_attempt(self, report: pytest.TestReport) -> None:
        """Let the attempt that does not count end in silence."""
        if report.failed:
            report.sections.append(("in the teardown after the device error", report.longreprtext))
            report.outcome, report.longrepr = "passed", None
        report.retry = []  # type: ignore[attr-defined]  # the end of an attempt that does not count
        if self._run is not None:
            self._run.is_paused = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Let the run go on where this is the last test, and it runs again."""
        if self._run is not None:
            self._run.is_paused = self._rerun is not None

    def _rebuild(self, item: pytest.Item) -> None:
        """End the test's device fixtures and all that depend on them, so that they are made again."""
        assert self._run is not None
        if self._exporter:
            self._run.choice.blame(self._exporter)
        roles = self._run.roles_with(self._roles_of(item))
        for role in roles:
            self._live.finish(role)  # an error here comes from the loss, too
        pytest.CallInfo.from_call(  # and here
            partial(self._run.give_back, roles),
            when="teardown",
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )
        for role in roles:
            self._run.healths.pop(role, None)
        pytest_private.forget_instance(item)

    def _tell(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Say once, on the first report of the new attempt, where the test runs now."""
        lines = []
        if self._reason:
            words = f"{self._exporter or 'no exporter'} ({self._reason}) -> {self._exporters(item) or 'no exporter'}"
            item.user_properties.append((PROPERTY, words))
            lines.append(f"retried: {item.name} on {words}")
            self._reason = ""
        report.retry = lines  # type: ignore[attr-defined]  # reports carry what plugins add

    def _exporters(self, item: pytest.Item) -> str:
        """Return the names of the exporters of the test's devices."""
        assert self._run is not None
        assert self._faults is not None
        devices = [self._run.healths[role].device for role in self._faults.roles_of(item)]
        return ", ".join(device.exporter.name for device in devices if device is not None)


def _first_line(fault: DeviceError) -> str:
    """Return the reason without the output of a hook that may follow."""
    return str(fault).partition("\n")[0]

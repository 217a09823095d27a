"""
The device of the first test that fails, left to people (`--jmp-hold-on-failure`).

How to reach it is put on the test's report as `report.held`, lines of text, and travels between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.errors import JumpstarterError
from pytest_jumpstarter.report.shown import Shown

if TYPE_CHECKING:
    from pytest_jumpstarter.run import Run


class HoldOnFailure:
    """
    In the process that leases: keeps the device of the first test that fails, and ends the run.

    A failure is seen when its report is made, before the device is put away, but counts only once it is logged: a
    plugin that runs failed tests again may call it a rerun by then.

    Args:
        roles_of: Returns the roles that a test uses.
        duration: Seconds to hold the device.
    """

    def __init__(self, run: Run, roles_of: Callable[[pytest.Item], Collection[str]], duration: float) -> None:
        self._run = run
        self._roles_of = roles_of
        self._duration = duration
        self._session: pytest.Session | None = None
        self._failed: pytest.TestReport | None = None
        self._is_done = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """See a test fail, and let its device not go back until that is logged."""
        report = yield
        if self._failed is not None and call.when == "setup":  # nobody logged it
            self._let_go()
        is_first = self._failed is None and not self._is_done and not self._run.received
        if is_first and _is_test_failure(report, call) and self._run.defer(self._roles_of(item)):
            self._session, self._failed = item.session, report
            report.held = []  # type: ignore[attr-defined]  # reports carry what plugins add
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hold the device if the test has failed for good, and end the run."""
        if report is not self._failed or self._session is None:
            return
        if report.outcome != "failed":
            self._let_go()
            return
        held = self._run.reserve(self._duration)
        self._failed, self._is_done = None, held.is_any
        report.held = held.lines  # type: ignore[attr-defined]  # reports carry what plugins add
        if held.is_any:
            self._session.shouldfail = "the device of a failed test is held (--jmp-hold-on-failure)"

    def _let_go(self) -> None:
        self._failed = None
        self._run.undefer()


class HeldDevices(Shown):
    """In the process that prints: says how to reach the devices that are held, and gives the run its exit code."""

    def __init__(self, config: pytest.Config) -> None:  # noqa: ARG002 - as all that show reports are made
        self._lines: list[str] = []

    def add(self, report: pytest.TestReport) -> None:
        """Keep what is known of a held device."""
        held = getattr(report, "held", [])
        if held:
            self._lines += [f"after {report.nodeid} failed:", *(f"  {line}" for line in held)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Any:
        """Exit with 1, for the failure: under xdist a process that ends the run counts as an interrupt."""
        if self._lines and exitstatus == pytest.ExitCode.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is held until when, how to reach it and how to give it back."""
        if self._lines:
            terminalreporter.section("jumpstarter: held after a failure", yellow=True, bold=True)
        for line in self._lines:
            terminalreporter.write_line(line)


def _is_test_failure(report: pytest.TestReport, call: pytest.CallInfo[None]) -> bool:
    """Tell whether the product failed, not the lab, and not what was asked of it."""
    is_ours = call.excinfo is not None and isinstance(call.excinfo.value, JumpstarterError)
    return report.failed and not hasattr(report, "device_error") and not is_ours

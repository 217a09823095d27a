"""
`CurrentTest`: the test that runs at this moment, its phase, and since when.

It may be made in the middle of a phase, when the first test gets a device: what comes of that is dealt with here only.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from typing import Any

import pytest

from pytest_jumpstarter.devices_of import devices_of

CURRENT_TEST = pytest.StashKey["CurrentTest"]()

_ATTEMPTS = pytest.StashKey[int]()


class CurrentTest:
    """
    The test that runs at this moment.

    Attributes:
        item: The test; None between two tests.
        phase: `setup`, `call` or `teardown`.
        phases: Each phase of this test so far, with the Unix time at which it began.
        is_first_phase: Whether no phase began since this object was made, in the middle of one.
        test_began: When the setup of this attempt began, by `time.monotonic()`.
    """

    def __init__(self, item: pytest.Item | None = None, phase: str = "setup", *, is_debugged: bool = False) -> None:
        self.item = item
        self.phase = phase
        self.phases = [(phase, time.time())]
        self.is_first_phase = True
        self.test_began = -math.inf
        self._began = time.monotonic()
        self._made = time.time()
        self._repeats: dict[str, int] = {}
        self._last_error: dict[str, BaseException] = {}
        self._is_in_phase = item is not None
        self._is_debugged = self._is_always_debugged = is_debugged

    @property
    def is_interruptible(self) -> bool:
        """
        Whether the main thread is in the test's own code: in one of its phases, and at no debugger's prompt.

        An error that is raised where pytest itself is at work, which tells of a failure for seconds on a busy machine,
        would end the run.
        """
        return self._is_in_phase and not self._is_debugged

    def began(self, call: pytest.CallInfo[None]) -> float:
        """Return when the phase of a report began, by `time.monotonic()`."""
        if not self.is_first_phase:
            return self._began
        return min(self._began, time.monotonic() - (time.time() - call.start))

    def error(self, call: pytest.CallInfo[None]) -> BaseException | None:
        """
        Return the error that ended the phase of a report.

        A plugin that runs a failed test again within one report leaves the first error there; the last one counts.
        """
        if self.was_repeated(call):
            return self._last_error.get(str(call.when))
        return call.excinfo.value if call.excinfo is not None else None

    def was_repeated(self, call: pytest.CallInfo[None]) -> bool:
        """Return whether a plugin ran the phase again while its report was being made."""
        return self._repeats.get(str(call.when), 0) > 0

    @property
    def setup_error(self) -> BaseException | None:
        """The error that ended the last setup of this test, if one did."""
        return self._last_error.get("setup")

    def pytest_enter_pdb(self) -> None:
        """Note that there is a debugger's prompt; with `--pdb` there may be one at any time."""
        self._is_debugged = True

    def pytest_leave_pdb(self) -> None:
        """Note that the test goes on."""
        self._is_debugged = self._is_always_debugged

    @pytest.hookimpl(specname="pytest_runtest_setup", wrapper=True, tryfirst=True)
    def pytest_runtest_setup_begins(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Note the test, and that its setup begins."""
        self.item, self.phases, self.test_began = item, [], time.monotonic()
        item.stash[_ATTEMPTS] = item.stash.get(_ATTEMPTS, 0) + 1
        devices_of(item).begin()
        return (yield from self._run("setup"))

    @pytest.hookimpl(specname="pytest_runtest_call", wrapper=True, tryfirst=True)
    def pytest_runtest_call_begins(self) -> Generator[None, Any, Any]:
        """Note that the call begins."""
        return (yield from self._run("call"))

    @pytest.hookimpl(specname="pytest_runtest_teardown", wrapper=True, tryfirst=True)
    def pytest_runtest_teardown_begins(self) -> Generator[None, Any, Any]:
        """Note that the teardown begins."""
        return (yield from self._run("teardown"))

    @pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: everybody else's code is not the test's
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """Note that the test's own code runs."""
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Note that the test's own code runs."""
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self) -> Generator[None, Any, Any]:
        """Note that the test's own code runs."""
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Note the end of the phase in which this object was made, but not by a subtest's report in its midst."""
        if self.is_first_phase and call.when == self.phase and call.start <= self._made:
            self._is_in_phase = False
        self._repeats[str(call.when)] = 0
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note that a signal ended the test."""
        self._is_in_phase = False

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Note that the test is over."""
        self.item = None

    def _run(self, phase: str) -> Generator[None, Any, Any]:
        self.phase, self._began, self.is_first_phase = phase, time.monotonic(), False
        self.phases.append((phase, time.time()))
        self._repeats[phase] = self._repeats.get(phase, 0) + 1
        self._last_error.pop(phase, None)
        try:
            return (yield)
        except BaseException as exc:
            self._last_error[phase] = exc
            raise

    def _in_phase(self) -> Generator[None, Any, Any]:
        self._is_in_phase = True
        try:
            return (yield)
        finally:
            self._is_in_phase = False


def attempt_of(item: pytest.Item) -> int:
    """Return which attempt of a test this is: 1, and more where it runs again."""
    return item.stash.get(_ATTEMPTS, 1)


def current_test(session: pytest.Session) -> CurrentTest:
    """Return what knows the test that runs at this moment, made and registered at the first call."""
    config = session.config
    if CURRENT_TEST not in config.stash:
        node_id, _, phase = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")
        item = next((item for item in session.items if item.nodeid == node_id), None)
        if item is not None:
            item.stash.setdefault(_ATTEMPTS, 1)
        test = CurrentTest(item, phase.strip("()") or "setup", is_debugged=config.getoption("usepdb", default=False))
        config.stash[CURRENT_TEST] = test
        config.pluginmanager.register(test, "jumpstarter-current-test")
    return config.stash[CURRENT_TEST]

"""
`CurrentTest`: the test that runs at this moment, its phase, and the start of each phase.

This object may be made in the middle of a phase, when the first test gets a device. Only this module handles that case.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.host import real_time

CURRENT_TEST: pytest.StashKey[CurrentTest] = pytest.StashKey()

_ATTEMPTS: pytest.StashKey[int] = pytest.StashKey()


class CurrentTest:
    """
    The test that runs at this moment.

    Attributes:
        item: The test; None between two tests.
        phase: `setup`, `call` or `teardown`.
        phases: Each phase of this test so far, with its start in Unix time.
        is_first_phase: Whether this is still the phase in which this object was made.
        test_began: The start of the setup of this attempt, by `time.monotonic()`.
    """

    def __init__(self, item: pytest.Item | None = None, phase: str = "setup", *, is_debugged: bool = False) -> None:
        self.item = item
        self.phase = phase
        self.phases = [(phase, real_time.time())]
        self.is_first_phase = True
        self.test_began = -math.inf
        self._began = real_time.monotonic()
        self._made = real_time.time()
        self._repeats: dict[str, int] = {}
        self._last_error: dict[str, BaseException] = {}
        self._is_in_phase = item is not None
        self._is_debugged = self._is_always_debugged = is_debugged

    @property
    def is_interruptible(self) -> bool:
        """
        Whether the main thread runs the test's own code: it is in a phase of the test, and not in a debugger.

        If an error is raised while pytest's code runs, pytest ends the run. On a busy machine pytest may need seconds
        to report a failure.
        """
        return self._is_in_phase and not self._is_debugged

    def began(self, call: pytest.CallInfo[None]) -> float:
        """Return the start of the phase of a report, by `time.monotonic()`."""
        if not self.is_first_phase:
            return self._began
        return min(self._began, real_time.monotonic() - (real_time.time() - call.start))

    def error(self, call: pytest.CallInfo[None]) -> BaseException | None:
        """
        Return the error that ended the phase of a report.

        If a plugin repeats the phase while the report is made, `call` still has the first error; the last error counts.
        """
        if self.was_repeated(call):
            return self._last_error.get(str(call.when))
        return call.excinfo.value if call.excinfo is not None else None

    def was_repeated(self, call: pytest.CallInfo[None]) -> bool:
        """Return whether a plugin repeated the phase while its report was made."""
        return self._repeats.get(str(call.when), 0) > 0

    @property
    def setup_error(self) -> BaseException | None:
        """The error that ended the last setup of this test; None if it passed."""
        return self._last_error.get("setup")

    def pytest_enter_pdb(self) -> None:
        """Note that the debugger has started."""
        self._is_debugged = True

    def pytest_leave_pdb(self) -> None:
        """Note that the debugger has ended; with `--pdb` it may start again at any time."""
        self._is_debugged = self._is_always_debugged

    @pytest.hookimpl(specname="pytest_runtest_setup", wrapper=True, tryfirst=True)
    def pytest_runtest_setup_begins(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note the test, and the start of its setup."""
        __tracebackhide__ = True  # here and below, for errors of the test
        self.item, self.phases, self.test_began = item, [], real_time.monotonic()
        item.stash[_ATTEMPTS] = item.stash.get(_ATTEMPTS, 0) + 1
        devices_of(item).begin()
        return (yield from self._run("setup"))

    @pytest.hookimpl(specname="pytest_runtest_call", wrapper=True, tryfirst=True)
    def pytest_runtest_call_begins(self) -> Generator[None, object, object]:
        """Note the start of the call."""
        __tracebackhide__ = True
        return (yield from self._run("call"))

    @pytest.hookimpl(specname="pytest_runtest_teardown", wrapper=True, tryfirst=True)
    def pytest_runtest_teardown_begins(self) -> Generator[None, object, object]:
        """Note the start of the teardown."""
        __tracebackhide__ = True
        return (yield from self._run("teardown"))

    @pytest.hookimpl(wrapper=True, trylast=True)  # the innermost wrapper, so that code of other plugins is outside
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Note that the test's own code runs."""
        __tracebackhide__ = True
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """Note that the test's own code runs."""
        __tracebackhide__ = True
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        """Note that the test's own code runs."""
        __tracebackhide__ = True
        return (yield from self._in_phase())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
        """Note the end of the phase in which this object was made; a subtest's report within it is not the end."""
        if self.is_first_phase and call.when == self.phase and call.start <= self._made:
            self._is_in_phase = False
        self._repeats[str(call.when)] = 0
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Note that an interrupt ended the test."""
        self._is_in_phase = False

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Note that the test is over."""
        self.item = None

    def _run(self, phase: str) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self.phase, self._began, self.is_first_phase = phase, real_time.monotonic(), False
        self.phases.append((phase, real_time.time()))
        self._repeats[phase] = self._repeats.get(phase, 0) + 1
        self._last_error.pop(phase, None)
        try:
            return (yield)
        except BaseException as exc:
            self._last_error[phase] = exc
            raise

    def _in_phase(self) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._is_in_phase = True
        try:
            return (yield)
        finally:
            self._is_in_phase = False


def attempt_of(item: pytest.Item) -> int:
    """Return the number of this attempt of a test: 1, or more if the test runs again."""
    return item.stash.get(_ATTEMPTS, 1)


def current_test(session: pytest.Session) -> CurrentTest:
    """Return the `CurrentTest` of a session; the first call makes and registers it."""
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

"""
The exit code of a run.

If several things happened, the first row of `EXIT_CODES` that fits decides. Three places know one of them each: this
module a signal and a lease that was not released, `report/device_errors.py` that nothing but the lab failed, and
`report/held_devices.py` that a run ended because it left a device to people. Everything else is pytest's own.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.report.device_errors import EXIT_CODE
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running.run import Run

if TYPE_CHECKING:
    from pytest_jumpstarter.workers.controller import WorkersController

EXIT_CODES = (
    ("128 + signal", "a signal ended the run: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP"),
    ("4", "pytest cannot start: an option, a configuration or a marker is wrong"),
    ("3", "pytest or a plugin has an internal error"),
    ("2", "the run was interrupted, or test files cannot be imported"),
    ("1", "a test failed or has an error, a device is held after a failure, or a check found tests without a device"),
    ("8", "device errors are all that failed, or a lease could not be released"),
    ("5", "no tests were found"),
    ("0", "all is well"),
)
"""Each exit code and what it means, in the order in which they decide."""


class ExitCode:
    """
    The exit code of a run that a signal ended, or that could not give a board back.

    Args:
        run: What knows of a signal: a run, or in xdist's controller process the crew of workers.
    """

    def __init__(self, run: Run | WorkersController, terminal: Terminal) -> None:
        self.run = run
        self._terminal = terminal

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Set the exit code after a signal; report teardowns that failed because their boards had been released."""
        try:
            return (yield)
        except Exception as exc:
            if not self.run.stop.received:
                raise
            self._terminal.say(f"in teardown, after the boards were given back: {type(exc).__name__}: {exc}")
            return None
        finally:
            if self.run.stop.received:
                session.exitstatus = 128 + self.run.stop.received
            elif self._terminal.failures and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = EXIT_CODE

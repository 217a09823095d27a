"""The exit code of a run."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.report.device_errors import EXIT_CODE
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running.run import Run

if TYPE_CHECKING:
    from pytest_jumpstarter.workers.controller import WorkersController


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
        """Let the exit code be the signal's, and say what teardowns made of boards that had gone back already."""
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

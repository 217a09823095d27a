"""
How the run ended: its exit code with the meaning, and the problems that are in no test's report.

`EXIT_CODES` (exit_codes.py) decides on the exit code. Other parts only tell this one what happened.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.masking import last_characters, safe
from pytest_jumpstarter.report.drafts import Drafts
from pytest_jumpstarter.report.exit_codes import EXIT_CODES, OF_SIGNALS, TOO_MANY_WARNINGS
from pytest_jumpstarter.report.junit_run import listed, write_end
from pytest_jumpstarter.report.reasons import reason_in
from pytest_jumpstarter.report.replacing import replacing
from pytest_jumpstarter.report.run_data import EndData, Problem
from pytest_jumpstarter.report.terminal import PROBLEMS, Terminal

if TYPE_CHECKING:
    from pytest_jumpstarter.signals import OrderlyStop

RUN_END: pytest.StashKey[RunEnd] = pytest.StashKey()

NOT_ENDED = "the run has not ended, or its process was killed"
"""What reports say instead of an exit code while the run goes on."""

_NOT_SHOWN = -1  # in place of the exit code that the summary has shown
_TEXT = 32_768  # characters of a problem at most
_WARNINGS = 20  # of too many warnings at most


class RunEnd:
    """
    Collects what ends the run, in the process that prints, and sets its exit code.

    Attributes:
        terminal: Knows the leases that were not released, and the hooks that failed; None before `watch`.
        has_failed_late: Whether a hook of a plugin or conftest file raised an error as the run ended.
        device_errors: How many failures are device errors.
        failures: How many failures there are in all.
        meaning: The meaning of the exit code.
        ended_by: What ended the run early: a signal, an exception, `-x`; empty if it ran to its end.
        writers: Called to write the files of reports, with whether the run ends; if not, they are drafts.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.terminal: Terminal | None = None
        self.has_failed_late: bool = False
        self.device_errors: int = 0
        self.failures: int = 0
        self.meaning = self.ended_by = ""
        self._config = config
        self._stop: OrderlyStop | None = None
        self._session: pytest.Session | None = None
        self._problems: list[Problem] = []
        self._collected: list[str] = []
        self._begun: dict[str, bool] = {}
        self._chosen, self._shown = -1, _NOT_SHOWN
        self._in_junit = (-1, 0)
        self._pytests_code = 0
        self._has_summary = self._is_finished = False
        self.writers: list[Callable[[bool], None]] = [self._write_junit]

    def watch(self, stop: OrderlyStop, terminal: Terminal) -> None:
        """From now on learn of signals and of what goes to the terminal; a second signal first tells how it ended."""
        self._stop, self.terminal = stop, terminal
        stop.before_end.append(self._tell_all)

    @property
    def signal(self) -> int:
        """The signal that ended the run; 0 if there was none."""
        return self._stop.received if self._stop is not None else 0

    @property
    def problems(self) -> list[Problem]:
        """The problems that are in no test's report."""
        told = self.terminal.told if self.terminal is not None else []
        return [*self._problems, *(new_problem(PROBLEMS[kind], "", text) for kind, text in told)]

    def has(self, kind: str) -> bool:
        """Return whether there was a problem of this kind."""
        return any(problem["kind"] == kind for problem in self.problems)

    def add_problem(self, kind: str, where: str, text: str, *, reason: str = "") -> None:
        """Add a problem that is in no test's report; without `reason` this is found in the text."""
        self._problems.append(new_problem(kind, where, text, reason=reason))

    @property
    def is_early(self) -> bool:
        """Whether the run ended before all its tests had ended."""
        return bool(self.interrupted or self.never_began)

    @property
    def interrupted(self) -> list[str]:
        """The tests that began and did not end."""
        return [test for test, has_ended in self._begun.items() if not has_ended]

    @property
    def never_began(self) -> list[str]:
        """The tests that were collected and did not begin, unless none was to begin."""
        if self._config.getoption("jmp_check") or self._config.getoption("collectonly"):
            return []
        items = self._session.items if self._session is not None and hasattr(self._session, "items") else []
        collected = self._collected or [item.nodeid for item in items]
        return [safe(test) for test in collected if test not in self._begun]

    def settled(self) -> EndData:
        """Set the exit code by what is known now, and return how the run ended."""
        code = self.settle()
        return self._said(code, self.meaning, self.ended_by)

    def unfinished(self) -> EndData:
        """Return what there is to say while the run goes on."""
        return self._said(None, NOT_ENDED, "")

    def _said(self, exit_code: int | None, meaning: str, ended_by: str) -> EndData:
        return {
            "exit_code": exit_code,
            "meaning": meaning,
            "ended_by": ended_by,
            "interrupted": self.interrupted,
            "never_began": self.never_began,
            "problems": self.problems,
        }

    def settle(self) -> int:
        """Set the exit code by what is known now, and return it."""
        session = self._session
        assert session is not None  # the hooks below note it first
        if session.exitstatus != self._chosen:
            self._pytests_code = int(session.exitstatus)
        self.failures = session.testsfailed
        row = next((row for row in EXIT_CODES if row.applies(self, self._pytests_code)), None)
        code = self._pytests_code if row is None else row.code
        self.meaning = "a plugin chose this exit code" if row is None else row.meaning
        if row is not None and row.code == OF_SIGNALS:
            code += self.signal
            self.ended_by = signal.Signals(self.signal).name
            self.meaning = f"{self.ended_by} ended the run"
        session.exitstatus = self._chosen = code
        return code

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Note the session: another hook of its start may fail, and then it has no end."""
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the error of a file that cannot be imported."""
        if report.failed:
            self.add_problem("collection error", report.nodeid, report.longreprtext)

    @pytest.hookimpl(trylast=True)
    def pytest_internalerror(self, excrepr: object, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep an internal error."""
        self.add_problem("internal error", "", str(excrepr), reason=reason_in(excinfo.exconly()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note what ended the run."""
        self.ended_by = safe(str(getattr(excinfo.value, "msg", excinfo.value)) or excinfo.exconly())

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object | None) -> None:
        """Keep the crash of a worker of xdist."""
        if error is not None:
            name = getattr(getattr(node, "gateway", None), "id", "")
            self.add_problem("worker crashed", name, str(error))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note the tests that a worker of xdist has collected; all workers collect the same."""
        self._collected = ids

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Start no test after a signal."""
        self._require_no_signal()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test has begun."""
        self._begun[nodeid] = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test has ended."""
        self._begun[nodeid] = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has ended: of a worker that crashed in it there is no other sign."""
        if report.when not in ("setup", "call"):
            self._begun[report.nodeid] = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """
        Set the exit code before files are written, and again after all teardowns.

        After a signal the process may be killed in the middle of a teardown, so the summary comes before it; and a
        teardown that fails because its board has been released is shown as a line.
        """
        self._session = session
        if isinstance(error := sys.exc_info()[1], pytest.UsageError):
            self.add_problem("usage error", "", str(error))
        self.ended_by = self.ended_by or safe(str(session.shouldfail or session.shouldstop or ""))
        self._write_to_junit()
        if self.signal:
            self._write_files()
        if self.signal not in (0, signal.SIGINT):  # after SIGINT pytest shows the summary itself
            self._show_summary()
        try:
            return (yield)
        except Exception as exc:
            if not self.signal or self.terminal is None:
                self._note_late(exc)
                raise
            self.terminal.say(f"in teardown, after the boards were released: {type(exc).__name__}: {exc}")
            return None
        finally:
            self._finish()
            if self._stop is not None and self._stop.received:
                self._stop.restore()  # a second signal has nothing to tell any more

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self) -> Generator[None, object, object]:
        """Tell the error of a hook that ends the run, and the end of a session that had none."""
        if self._session is not None and not self._is_finished:
            self._finish()
        try:
            return (yield)
        except Exception as exc:
            self._note_late(exc)
            if self._session is not None:
                self._finish()
            raise

    def _note_late(self, error: Exception) -> None:
        """Note an error of a hook at the end of the run: pytest passes it on to Python, which ends with exit code 1."""
        session = self._session
        if isinstance(error, pytest.exit.Exception):
            self.ended_by = safe(error.msg)
            if session is not None and error.returncode is not None:
                session.exitstatus = error.returncode
                error.returncode = self.settle()  # pytest sets it again
            return
        self.has_failed_late = True
        reason = "".join(traceback.format_exception_only(error)).strip()
        self.ended_by = self.ended_by or safe(reason)
        self.add_problem("internal error", "", "".join(traceback.format_exception(error)), reason=reason)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None, object, object]:
        """Show how the run ended."""
        self._has_summary = True
        result = yield
        self._show_ending(terminalreporter)
        return result

    def _show_ending(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the exit code with its meaning, and the tests that did not end."""
        if self._session is None:
            return
        code = self.settle()
        if code or self.is_early:
            self._show_code(terminalreporter, code)
        self._shown = code  # not earlier: a second signal may come in the middle of the summary

    def _show_code(self, terminalreporter: pytest.TerminalReporter, code: int) -> None:
        ended_by = f" ({self.ended_by})" if self.ended_by and self.ended_by not in self.meaning else ""
        terminalreporter.write_line(f"jumpstarter: exit code {code}: {self.meaning}{ended_by}", red=True)
        for words, tests in (("interrupted", self.interrupted), ("never began", self.never_began)):
            if tests:
                terminalreporter.write_line(f"jumpstarter: {words}: {listed(tests)}", red=True)

    def _finish(self) -> None:
        """Set the exit code, and tell what came after the files were written and the summary was shown."""
        self._is_finished = True
        if self.settle() == TOO_MANY_WARNINGS and not self.has("warning"):
            self._note_warnings()
        if (self._chosen, len(self.problems)) != self._in_junit:
            self._write_to_junit()
            self._write_files()
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        if self.terminal is not None:
            self.terminal.pytest_terminal_summary(reporter)  # what was told after the summary
        if not (self._has_summary or self._config.getoption("no_summary")):
            with suppress(Exception):  # pytest shows none after an error of a hook, or of a teardown after Ctrl-C
                self._show_summary()
        elif self.has_failed_late or self._shown != self._chosen:
            self._show_ending(reporter)

    def _note_warnings(self) -> None:
        """Note the first warnings: pytest counts them once all files are written, and they make the run red."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        for warning in reporter.stats.get("warnings", [])[:_WARNINGS] if reporter is not None else ():
            self.add_problem("warning", warning.nodeid or "", warning.message)

    def _show_summary(self) -> None:
        """Show what pytest shows at the end of a run, unless it was shown as a whole."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._shown == _NOT_SHOWN:
            self._config.hook.pytest_terminal_summary(
                terminalreporter=reporter, exitstatus=pytest.ExitCode.INTERRUPTED, config=self._config
            )
            reporter.flush()

    def _tell_all(self) -> None:
        """Write the files and show the summary, because the process is about to end."""
        for tell in (self._write_to_junit, self._write_files, self._end_capture, self._show_summary):
            with suppress(Exception):  # the others still tell what they can
                tell()

    def _end_capture(self) -> None:
        """End the capture of the output of a test that was interrupted: the summary would go there."""
        if (capture := self._config.pluginmanager.get_plugin("capturemanager")) is not None:
            capture.suspend_global_capture()

    def _write_files(self, *, is_end: bool = True) -> None:
        """Write JUnit and the files of reports."""
        for write in self.writers:
            with suppress(Exception):  # one that cannot be written costs no other
                write(is_end)

    def write_drafts(self) -> None:
        """Write the files as they are while the run goes on; a signal in the middle of it ends the run all the same."""
        self._write_files(is_end=False)
        self._require_no_signal()

    def _require_no_signal(self) -> None:
        if self._stop is not None:
            self._stop.require_none()

    def _write_junit(self, is_end: bool) -> None:
        if not is_end:
            write_end(self._config, self.unfinished())
        pytest_private.junit_write(self._config, replacing)

    def _write_to_junit(self) -> None:
        """Add to the JUnit file what is in no test's report."""
        write_end(self._config, self.settled())
        self._in_junit = self._chosen, len(self.problems)


def run_end(config: pytest.Config) -> RunEnd:
    """Return the `RunEnd` of a run; the first call makes and registers it."""
    if RUN_END not in config.stash:
        config.stash[RUN_END] = found = RunEnd(config)
        config.pluginmanager.register(found, "jumpstarter-run-end")
        config.pluginmanager.register(Drafts(found.write_drafts), "jumpstarter-drafts")
    return config.stash[RUN_END]


def new_problem(kind: str, where: str, text: str, *, reason: str = "") -> Problem:
    """Return a problem that is in no test's report, made safe; without `reason` this is found in the text."""
    text = last_characters(text, _TEXT)
    return {"kind": kind, "where": safe(where), "reason": safe(reason) or reason_in(text), "text": text}

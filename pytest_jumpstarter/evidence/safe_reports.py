"""In each process: makes reports, log records and warnings safe to show, from tests, drivers and this plugin."""

from __future__ import annotations

import copy
import logging
import sys
import traceback
import warnings
from collections.abc import Generator, Iterable
from types import TracebackType

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.evidence.record import MAPS, OURS, record_of
from pytest_jumpstarter.masking import mask, safe, without_commands
from pytest_jumpstarter.masking.structures import make_safe, safe_record

SAFE_REPORTS: pytest.StashKey[SafeReports] = pytest.StashKey()

_INSIDE = ("_pytest._code", "_pytest.subtests")
_KEPT = frozenset(("nodeid", "location", "keywords", "when", "outcome", "style", "jumpstarter", "id"))
"""Attributes by which processes identify a test, and those that pytest compares."""


class SafeReports:
    """
    Makes safe what pytest, this plugin and others show of a run.

    Attributes:
        is_alone: Whether this object changes the reports of tests, because there is no pipeline that calls `make_safe`.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.is_alone = True
        self._ids: dict[str, str] = {}
        self._shows_setup = bool(config.getoption("setupshow", default=False))
        self._config = config
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = _show  # for errors that leave pytest
        self._watch()

    def make_safe(self, report: pytest.TestReport) -> None:
        """Change a report of which no pipeline has made the record."""
        if (record := record_of(report)) is not None:
            report.jumpstarter = safe_record(record, ours=OURS, maps=MAPS)  # type: ignore[attr-defined]  # plugins may add attributes to reports
        self.make_fields_safe(report)

    def make_fields_safe(self, report: pytest.TestReport) -> None:
        """Change all fields of a report except those that identify the test, and our record."""
        make_safe(report, inside=_INSIDE, kept=_KEPT)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Watch what pytest had not made before."""
        self._watch()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Make a report safe before the first device."""
        report = yield
        if self.is_alone:
            self.make_safe(report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Make the report of a subtest safe: pytest adds its title and its output when the report is made already."""
        if hasattr(report, "context"):
            self.make_safe(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Make the error of a file that cannot be imported safe."""
        if report.failed:
            make_safe(report, inside=_INSIDE, kept=_KEPT | {"result"})

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Make a warning and its place safe; one that changes becomes plain text."""
        warning_message.filename = safe(warning_message.filename)
        if (text := safe(str(warning_message.message))) != str(warning_message.message):
            warning_message.message = text

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the ids of tests that must not be shown as they are."""
        self._note(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Note those of the tests that a worker of xdist has collected."""
        self._note(ids)

    def _note(self, ids: Iterable[str]) -> None:
        """Note texts in whose last brackets a test says something to CI systems; pytest has escaped control codes."""
        for text in ids:
            if (shown := without_commands(part := text[text.find("[") :])) != part:
                self._ids[part] = shown

    def _shown(self, text: str) -> str:
        """Return what is written to the terminal without secrets, and ids of tests without commands."""
        for part in self._ids if self._ids and "[" in text else ():
            text = text.replace(part, self._ids[part])
        if text.startswith("[") and self._shows_setup:  # the parameter of a fixture
            text = without_commands(text)
        return mask(text)

    def _watch(self) -> None:
        """Make log records safe, and also all that is written to the terminal, such as the ids of tests."""
        pytest_private.change_terminal(self._config, self._shown)
        for handler in pytest_private.log_handlers(self._config):
            if not isinstance(handler.formatter, _SafeFormatter):
                handler.setFormatter(_SafeFormatter(handler.formatter or logging.Formatter()))


def safe_reports(config: pytest.Config) -> SafeReports:
    """Return the `SafeReports` of a run; the first call makes and registers it."""
    if SAFE_REPORTS not in config.stash:
        config.stash[SAFE_REPORTS] = found = SafeReports(config)
        config.pluginmanager.register(found, "jumpstarter-safe-reports")
    return config.stash[SAFE_REPORTS]


class _SafeFormatter(logging.Formatter):
    """Passes a safe copy of each record to the formatter of before; the record itself stays as it is."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        record = copy.copy(record)
        record.msg, record.args = safe(record.getMessage()), ()
        for name, value in vars(record).items():  # such as the name of a level or of a thread
            if isinstance(value, str):
                setattr(record, name, safe(value))
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        record.exc_info = None
        record.exc_text = safe(record.exc_text) if record.exc_text else None
        return self._inner.format(record)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that ends the process in Python's format."""
    sys.stderr.write(safe("".join(traceback.format_exception(kind, error, trace))))

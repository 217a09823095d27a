"""The files of `--jmp-report` and `--jmp-metrics`: written once, at the end of the run, by the process that prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.report.open_metrics import open_metrics
from pytest_jumpstarter.report.part import SUMMARY_TABLE
from pytest_jumpstarter.report.recorded_table import RecordedTable
from pytest_jumpstarter.report.replacing import replacing
from pytest_jumpstarter.report.run_data import RunData
from pytest_jumpstarter.report.run_end import run_end

if TYPE_CHECKING:
    from pytest_jumpstarter.report.history_section import HistorySection
    from pytest_jumpstarter.settings import Settings


_NOT_WRITTEN = "not written"


class Output(NamedTuple):
    """
    A file to write.

    Attributes:
        name: What it is called in the terminal.
        path: The file.
        source: The option or ini value that names it.
        format: Returns its text.
    """

    name: str
    path: Path
    source: str
    format: Callable[[RunData, Path], str]


class ReportFiles(RecordedTable):
    """
    Collects the reports of all tests, also of those without devices, and writes the files.

    Args:
        outputs: The files.
        history: What adds the history of `--jmp-history`; None without the option.

    Raises:
        OptionError: A file cannot be written there.
    """

    def __init__(self, config: pytest.Config, outputs: list[Output], history: HistorySection | None = None) -> None:
        super().__init__(config)
        self._history = history
        self._outputs = [each._replace(path=Path(config.invocation_params.dir, each.path)) for each in outputs]
        self._lines: list[str] = []
        self._lost: list[str] = []
        self._end = run_end(config)
        self._end.writers.append(self._write)
        for each in self._outputs:
            check_writable(each.path, each.source)

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Do nothing: `pytest_runtest_logreport` adds every report."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the report."""
        super().add(report, record_of(report))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Write the files; after a signal `RunEnd` wrote them already, because a teardown may hang."""
        try:
            return (yield from super().pytest_sessionfinish(session))
        finally:
            self._write(is_end=True)

    def _write(self, is_end: bool) -> None:
        """Write the files; a run without tests that finds nothing wrong leaves those of the last run."""
        self._take_news()
        end = self._end.settled() if is_end else self._end.unfinished()
        if _runs_nothing(self._config) and not end["exit_code"]:
            return
        data = self.run_record.as_data(end, versions=versions(), origin=self.origin._asdict())
        if self._history is not None and is_end:
            self._history.add(data)
        self._lines = [_write(each, data) for each in self._outputs]
        lost = [line for line in self._lines if line.startswith(_NOT_WRITTEN)] if is_end else []
        for line in lost:
            if line not in self._lost:
                self._lost.append(line)
                _, path, reason = line.split(": ", 2)
                self._end.add_problem("not written", path, reason)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table, and the paths of the files."""
        super().pytest_terminal_summary(terminalreporter)
        for line in self._lines:
            terminalreporter.write_line(line, red=line.startswith(_NOT_WRITTEN))


def check_writable(path: Path, source: str, shown: Path | None = None) -> None:
    """
    Check before the run, rather than after hours, that a file can be written.

    Args:
        path: The file.
        source: The option or ini value that names it.
        shown: The path in the error message; None for `path` itself.

    Raises:
        OptionError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("ab").close()
        if is_new:
            path.unlink()
    except OSError as exc:
        raise OptionError(f"{source}: {shown or path} cannot be written: {exc.strerror or exc}") from exc


def _write(output: Output, data: RunData) -> str:
    path = output.path
    try:
        text = output.format(data, path)
        with replacing(path) as file:
            file.write_text(text, encoding="utf-8", errors="replace")
    except OSError as exc:
        return f"{_NOT_WRITTEN}: {path}: {exc.strerror or exc}"
    return f"jumpstarter {output.name}: {path}"


def _json(data: RunData, path: Path) -> str:  # noqa: ARG001 - the signature of all formats
    return json.dumps(data, indent=1)


def _page(data: RunData, path: Path) -> str:
    from pytest_jumpstarter.report.page import page

    return page(data, path)


_RUN_NO_TEST = ("collectonly", "showfixtures", "show_fixtures_per_test", "cacheshow", "jmp_check")


def _runs_nothing(config: pytest.Config) -> bool:
    return any(config.getoption(name, default=False) for name in _RUN_NO_TEST)


_FORMATS: dict[str, Callable[[RunData, Path], str]] = {".json": _json, ".html": _page, ".md": _page}


def write_report(path: Path, data: RunData) -> None:
    """Write one report."""
    _write(Output("report", path, "", _FORMATS[path.suffix]), data)


def register_outputs(config: pytest.Config, settings: Settings) -> None:
    """
    Register the plugins that write report files and add columns to the page of pytest-html, if they are requested.

    A run without tests, such as with `--collect-only`, writes a report file only if it finds something wrong.

    Raises:
        OptionError: A file or folder cannot be written.
    """
    outputs = [
        Output("report", each.value, each.source, _FORMATS[each.value.suffix]) for each in settings.all("report")
    ]
    if (metrics := settings.find("metrics")) is not None:
        outputs.append(Output("metrics", metrics.value, metrics.source, open_metrics))
    history = None
    if (kept := settings.find("history")) is not None and not _runs_nothing(config):
        from pytest_jumpstarter.report.history_section import HistorySection

        history = HistorySection(config, kept.value)
        config.pluginmanager.register(history, "jumpstarter-history")
    if outputs:
        config.stash[SUMMARY_TABLE] = files = ReportFiles(config, outputs, history)
        config.pluginmanager.register(files, "jumpstarter-files")
    page = config.getoption("htmlpath", default=None)
    if page and config.pluginmanager.hasplugin("html"):
        from pytest_jumpstarter.report.html_columns import HtmlColumns

        config.pluginmanager.register(HtmlColumns(config, Path(page).absolute()), "jumpstarter-html")
    if (folder := settings.find("artifacts")) is not None:
        path = Path(config.invocation_params.dir, folder.value)
        check_writable(path / f".writable-{os.getpid()}", folder.source, path)

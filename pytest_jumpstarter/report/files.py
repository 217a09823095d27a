"""The files of `--jmp-report`: written once, at the end of the run, by the process that prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.masking import mask
from pytest_jumpstarter.report.part import SUMMARY_TABLE
from pytest_jumpstarter.report.run_data import RunData
from pytest_jumpstarter.report.summary_table import SummaryTable

if TYPE_CHECKING:
    from pytest_jumpstarter.settings import Settings


class ReportFiles(SummaryTable):
    """
    Collects the reports of all tests, also of those without devices, and writes the files.

    Args:
        paths: The files, each with the option or ini value that names it.

    Raises:
        OptionError: A file cannot be written there.
    """

    def __init__(self, config: pytest.Config, paths: list[tuple[Path, str]]) -> None:
        super().__init__(config)
        self._paths = [Path(config.invocation_params.dir, path) for path, _ in paths]
        self._lines: list[str] = []
        for path, (_, source) in zip(self._paths, paths, strict=True):
            check_writable(path, source)

    def add(self, report: pytest.TestReport, record: Record | None) -> None:
        """Do nothing: `pytest_runtest_logreport` adds every report."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the report."""
        super().add(report, record_of(report))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Write the files, also if a signal ended the run."""
        try:
            return (yield from super().pytest_sessionfinish(session))
        finally:
            data = self.run_record.as_data(
                exit_code=int(session.exitstatus), versions=versions(), origin=self.origin._asdict()
            )
            self._lines = [_write(path, data) for path in self._paths]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table, and the paths of the files."""
        super().pytest_terminal_summary(terminalreporter)
        for line in self._lines:
            terminalreporter.write_line(line, red=line.startswith("not written"))


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


def _write(path: Path, data: RunData) -> str:
    try:
        path.write_text(mask(_FORMATS[path.suffix](data, path)), encoding="utf-8", errors="replace")
    except OSError as exc:
        return f"not written: {path}: {exc.strerror or exc}"
    return f"jumpstarter report: {path}"


def _json(data: RunData, path: Path) -> str:  # noqa: ARG001 - the signature of all formats
    return json.dumps(data, indent=1)


def _page(data: RunData, path: Path) -> str:
    from pytest_jumpstarter.report.page import page

    return page(data, path)


_FORMATS: dict[str, Callable[[RunData, Path], str]] = {".json": _json, ".html": _page, ".md": _page}


def register_outputs(config: pytest.Config, settings: Settings) -> None:
    """
    Register the plugins that write report files and add columns to the page of pytest-html, if they are requested.

    No report file is written if no test will run (`--collect-only`, `--jmp-check`).

    Raises:
        OptionError: A file or folder cannot be written.
    """
    paths = [(setting.value, setting.source) for setting in settings.all("report")]
    runs_nothing = config.getoption("collectonly", default=False) or config.getoption("jmp_check")
    if paths and not runs_nothing:
        config.stash[SUMMARY_TABLE] = files = ReportFiles(config, paths)
        config.pluginmanager.register(files, "jumpstarter-files")
    page = config.getoption("htmlpath", default=None)
    if page and config.pluginmanager.hasplugin("html"):
        from pytest_jumpstarter.report.html_columns import HtmlColumns

        config.pluginmanager.register(HtmlColumns(Path(page).absolute()), "jumpstarter-html")
    if (folder := settings.find("artifacts")) is not None:
        path = Path(config.invocation_params.dir, folder.value)
        check_writable(path / f".writable-{os.getpid()}", folder.source, path)

"""Columns for exporter and lease in the table of pytest-html, links to the evidence of each test, and its subtests."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import pytest
from markupsafe import escape

from pytest_jumpstarter.evidence.record import DeviceFacts, Kept, record_of
from pytest_jumpstarter.masking import mask, safe
from pytest_jumpstarter.report.reasons import subtest_of

_NAME, _POSITION = 1, 2  # the column "Test", and what follows it


class HtmlColumns:
    """
    Adds columns and links to the page of pytest-html.

    That page has one row for each outcome of a test, so that of several subtests that failed it shows the last only,
    and it takes the test itself for passed. And it shows ids of tests as they are, with secrets and markup.

    Args:
        path: The path of that page.
    """

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path
        self._folder = path.parent
        self._subtests: dict[str, list[str]] = {}
        self._secret_ids: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Add the headers of our columns."""
        cells[_POSITION:_POSITION] = [_header("exporter"), _header("lease")]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """Add the boards of the test; the cells stay empty if it has none."""
        record = record_of(report)
        devices = record["devices"] if record is not None else []
        exporters, leases = [each["exporter"] for each in devices], [each["lease"] for each in devices]
        cells[_POSITION:_POSITION] = [_cell(", ".join(names)) for names in (exporters, leases)]
        title = subtest_of(report)
        cells[_NAME] = _cell_of_name(cells[_NAME], f" {title}" if title else "")

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        """Add the errors of all subtests to the row of a test that failed."""
        if report.when == "call" and report.failed and not subtest_of(report):
            data += [html.escape(text) for text in self._subtests.pop(report.nodeid, ())]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add labels, times and links to files as `extras`, before pytest-html reads the report."""
        from pytest_html import extras

        self._see(report)
        if (record := record_of(report)) is None:
            return
        is_shown = report.when == "call" and report.nodeid not in self._secret_ids  # pytest-html names files by ids
        devices = record["devices"] if is_shown else []
        found = [extras.text(_facts_text(device), name=f"device {device['role']}") for device in devices]
        if (kept := record.get("artifacts")) is not None:
            found += [extras.url(self._url(kept, name), name=name) for name in kept["files"]]
        if found:
            extended = [*getattr(report, "extras", []), *found]
            report.extras = extended  # type: ignore[attr-defined]  # pytest-html reads this attribute

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Mask the ids of tests in the finished page, which pytest-html uses as keys; each is replaced as a whole."""
        result = yield
        if self._secret_ids and self._path.exists():
            page = self._path.read_text(encoding="utf-8")
            for name in sorted(self._secret_ids, key=len, reverse=True):
                for quoted in (str(escape(json.dumps(name)[1:-1])), name):
                    page = page.replace(quoted, str(escape(mask(name))))
            self._path.write_text(page, encoding="utf-8")
        return result

    def _see(self, report: pytest.TestReport) -> None:
        """Note secrets in an id, and subtests that failed: with these pytest counts the test as failed, but later."""
        if mask(report.nodeid) != report.nodeid:
            self._secret_ids.add(report.nodeid)
        if title := subtest_of(report):
            if report.failed:
                self._subtests.setdefault(report.nodeid, []).append(f"{title}\n{report.longreprtext}")
        elif report.when == "call" and report.nodeid in self._subtests:
            self._config.hook.pytest_report_teststatus(report=report, config=self._config)

    def _url(self, kept: Kept, name: str) -> str:
        return quote(os.path.relpath(Path(kept["root"], kept["folder"], name), self._folder))


def _facts_text(device: DeviceFacts) -> str:
    return "\n".join(f"{name}: {value}" for name, value in device.items() if name not in ("role", "key"))


def _header(name: str) -> str:
    return f'<th class="sortable" data-column-type="{name}">{name.capitalize()}</th>'


def _cell_of_name(cell: str, more: str) -> str:
    """Return the cell with the id of a test, made safe, and with `more` after it."""
    start, text = cell.removesuffix("</td>").split(">", 1)
    return f"{start}>{html.escape(safe(text) + more)}</td>"


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"

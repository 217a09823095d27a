"""Exporter and lease in the table of pytest-html, and links to what a test left behind."""

from __future__ import annotations

import html
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from pytest_jumpstarter.evidence.record import DeviceFacts, Kept, record_of

_PLACE = 2  # after result and test


class HtmlColumns:
    """
    Adds to the page of pytest-html.

    Args:
        path: Where that page will be.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Add the heads of our columns."""
        cells[_PLACE:_PLACE] = [_head("exporter"), _head("lease")]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """Add which boards the test had; a collection error has none."""
        record = record_of(report)
        devices = record["devices"] if record is not None else []
        exporters, leases = [each["exporter"] for each in devices], [each["lease"] for each in devices]
        cells[_PLACE:_PLACE] = [_cell(", ".join(names)) for names in (exporters, leases)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what pytest-html calls extras, before it takes the report in: labels and times, links to files."""
        from pytest_html import extras

        if (record := record_of(report)) is None:
            return
        devices = record["devices"] if report.when == "call" else []
        found = [extras.text(_words(device), name=f"device {device['role']}") for device in devices]
        if (kept := record.get("artifacts")) is not None:
            found += [extras.url(self._address(kept, name), name=name) for name in kept["files"]]
        if found:
            report.extras = [*getattr(report, "extras", []), *found]  # type: ignore[attr-defined]  # where it looks

    def _address(self, kept: Kept, name: str) -> str:
        return quote(os.path.relpath(Path(kept["root"], kept["folder"], name), self._folder))


def _words(device: DeviceFacts) -> str:
    return "\n".join(f"{name}: {value}" for name, value in device.items() if name not in ("role", "key"))


def _head(name: str) -> str:
    return f'<th class="sortable" data-column-type="{name}">{name.capitalize()}</th>'


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"

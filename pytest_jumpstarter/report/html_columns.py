"""Columns for exporter and lease in the table of pytest-html, and links to the evidence of each test."""

from __future__ import annotations

import html
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from pytest_jumpstarter.evidence.record import DeviceFacts, Kept, record_of

_POSITION = 2  # after the columns "Result" and "Test"


class HtmlColumns:
    """
    Adds columns and links to the page of pytest-html.

    Args:
        path: The path of that page.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent

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

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add labels, times and links to files as `extras`, before pytest-html reads the report."""
        from pytest_html import extras

        if (record := record_of(report)) is None:
            return
        devices = record["devices"] if report.when == "call" else []
        found = [extras.text(_facts_text(device), name=f"device {device['role']}") for device in devices]
        if (kept := record.get("artifacts")) is not None:
            found += [extras.url(self._url(kept, name), name=name) for name in kept["files"]]
        if found:
            extended = [*getattr(report, "extras", []), *found]
            report.extras = extended  # type: ignore[attr-defined]  # pytest-html reads this attribute

    def _url(self, kept: Kept, name: str) -> str:
        return quote(os.path.relpath(Path(kept["root"], kept["folder"], name), self._folder))


def _facts_text(device: DeviceFacts) -> str:
    return "\n".join(f"{name}: {value}" for name, value in device.items() if name not in ("role", "key"))


def _header(name: str) -> str:
    return f'<th class="sortable" data-column-type="{name}">{name.capitalize()}</th>'  # as pytest-html writes its own


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"

"""Exporter and lease in the table of pytest-html, and links to what a test left behind."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

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
        devices: list[dict[str, Any]] = getattr(report, "jumpstarter", {}).get("devices", [])
        cells[_PLACE:_PLACE] = [_cell(", ".join(device[name] for device in devices)) for name in ("exporter", "lease")]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what pytest-html calls extras, before it takes the report in: labels and times, links to files."""
        from pytest_html import extras

        ours: dict[str, Any] = getattr(report, "jumpstarter", {}) if report.when == "call" else {}
        kept: dict[str, Any] = getattr(report, "artifacts", None) or {"files": []}
        found = [extras.text(_words(device), name=f"device {device['role']}") for device in ours.get("devices", [])]
        found += [extras.url(self._address(kept, name), name=name) for name in kept["files"]]
        if found:
            report.extras = [*getattr(report, "extras", []), *found]  # type: ignore[attr-defined]  # where it looks

    def _address(self, kept: dict[str, Any], name: str) -> str:
        return quote(os.path.relpath(Path(kept["root"], kept["folder"], name), self._folder))


def _words(device: dict[str, Any]) -> str:
    names = ("exporter", "lease", "labels", "wait_seconds", "hold_seconds")
    return "\n".join(f"{name}: {device[name]}" for name in names)


def _head(name: str) -> str:
    return f'<th class="sortable" data-column-type="{name}">{name.capitalize()}</th>'


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"

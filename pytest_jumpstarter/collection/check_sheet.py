"""The output of `--jmp-check`: facts, a table and reasons, on a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import pytest

from pytest_jumpstarter.masking import safe

_WIDTH = 80
_LABEL = 10
_SHOWN = 10
_WIDEST = 34


class Fact(NamedTuple):
    """A row of the check: its label, its text, and whether it is bad; the text of a bad one says what to do."""

    label: str
    text: str
    is_bad: bool = False


class CheckSheet:
    """
    Writes labelled rows, tables and reasons.

    Args:
        reporter: pytest's terminal; `-v` shows lists in full.

    Attributes:
        problems: The bad facts that were written.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self.problems: list[str] = []

    def title(self, text: str) -> None:
        """Write the title."""
        self._reporter.ensure_newline()
        self._reporter.section(text, bold=True)

    def facts(self, facts: Iterable[Fact]) -> None:
        """Write a row for each fact."""
        for each in facts:
            self.row(each.label, each.text, is_bad=each.is_bad)

    def row(self, label: str, text: str, *, is_bad: bool = False) -> None:
        """Write one fact, a bad one with ✗; a label that is too long for its column gets its own line."""
        if is_bad:
            self.problems.append(text)
            text = f"✗ {text}"
        lines = [line for part in text.splitlines() for line in _wrapped(part, _WIDTH - _LABEL)]
        head = f"{label:<{_LABEL}}"
        if len(label) >= _LABEL:
            self._write(label, is_bad)
            head = " " * _LABEL
        for line in lines:
            self._write(f"{head}{line}".rstrip(), is_bad)
            head = " " * _LABEL

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table; numbers are aligned to the right, and long cells have several lines."""
        if not rows:
            return
        texts = [[safe(str(cell)) for cell in row] for row in rows]
        widths = [max(len(cell) for cell in column) for column in zip(columns, *texts, strict=True)]
        widths = [min(width, _WIDEST) for width in widths[:-1]]
        widths.append(max(_WIDTH - sum(widths) - 2 * len(widths), len(columns[-1])))
        are_numbers = [all(isinstance(row[i], int) or row[i] == "-" for row in rows) for i in range(len(columns))]
        self._reporter.write_line("")
        for row in [list(columns), *texts]:
            cells = [_wrapped(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
            for line in zip_longest(*cells, fillvalue=""):
                parts = [
                    cell.rjust(width) if is_number else cell.ljust(width)
                    for cell, width, is_number in zip(line, widths, are_numbers, strict=True)
                ]
                self._write("  ".join(parts).rstrip())

    def reason(self, reason: str, names: Sequence[str]) -> None:
        """Write a reason in red, and below it the tests that it is for."""
        self.note(reason, names, is_bad=True)

    def note(self, text: str, names: Sequence[str], *, is_bad: bool = False) -> None:
        """Write a text, and below it the names that it is about."""
        self._reporter.write_line("")
        for part in text.splitlines():
            for line in _wrapped(part, _WIDTH):
                self._write(line, is_bad=is_bad)
        shown = names if self._reporter.verbosity > 0 else names[:_SHOWN]
        for name in shown:
            self._write(f"  {safe(name)}")
        if len(shown) < len(names):
            self._write(f"  and {len(names) - len(shown)} more (-v lists them)")

    def verdict(self, text: str, *, is_bad: bool = False) -> None:
        """Write the result of the check."""
        self._reporter.write_line("")
        self._reporter.write_line(text, bold=True, red=is_bad, green=not is_bad)

    def _write(self, line: str, is_bad: bool = False) -> None:
        self._reporter.write_line(line, red=is_bad)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(safe(text), width, break_long_words=False, break_on_hyphens=False)

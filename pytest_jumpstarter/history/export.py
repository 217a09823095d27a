"""Results as CSV and JSON, one row for each attempt of a test on a board."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from pytest_jumpstarter.history.results import Result, RunResults

_RUN = ("uuid", "start", "stop", "commit", "ci", "build", "job", "url")
COLUMNS = (*(f"run_{name}" for name in _RUN), *Result._fields)


def write_csv(runs: Iterable[RunResults], out: TextIO) -> None:
    """Write all results as CSV with a header."""
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([_safe(value) for value in row] for row in _rows(runs))


def write_json(runs: Iterable[RunResults], out: TextIO) -> None:
    """Write all results as one JSON object a line."""
    for row in _rows(runs):
        facts = dict(zip(COLUMNS, row, strict=True))
        facts["metrics"] = json.loads(str(facts["metrics"] or "[]"))
        out.write(json.dumps(facts) + "\n")


def _rows(runs: Iterable[RunResults]) -> Iterator[tuple[object, ...]]:
    for run in runs:
        facts = tuple(getattr(run, name) for name in _RUN)
        for result in run.results:
            yield (*facts, *result)


def _safe(value: object) -> object:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value

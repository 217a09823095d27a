"""Rows of the tables: add a run, and remove the oldest."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pytest_jumpstarter.history.results import RunResults

RUN_COLUMNS = "uuid, start, stop, commit_name, ci, build, job, url"
_REMOVED_AT_ONCE = 20  # runs, so that no run waits long for the end of a write
_SIZES = ("page_count", "freelist_count", "page_size")


def add(connection: sqlite3.Connection, run: RunResults) -> bool:
    """Add a run; return whether the file did not have it."""
    row = (run.uuid, run.start, run.stop, run.commit, run.ci, run.build, run.job, run.url)
    added = connection.execute(f"INSERT OR IGNORE INTO run ({RUN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    if not added.rowcount:
        return False
    tests = _Numbers(connection, "test", "name")
    words = _Numbers(connection, "word", "text")
    boards = {each.exporter: each.labels for each in run.results} | {each.exporter: each.labels for each in run.leases}
    connection.executemany(
        "INSERT INTO board (exporter, labels) VALUES (?, ?) "
        "ON CONFLICT (exporter) DO UPDATE SET labels = excluded.labels",
        boards.items(),
    )
    of_board = _Numbers(connection, "board", "exporter")
    connection.executemany(
        "INSERT INTO result (run, test, role, board, outcome, reason, device_error, setup_ms, call_ms, teardown_ms, "
        "metrics, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(added.lastrowid, tests[each.test], words[each.role], of_board[each.exporter]),
                *(words[each.outcome], each.reason or None, words[each.device_error]),
                *(_milliseconds(each.setup), _milliseconds(each.call), _milliseconds(each.teardown)),
                each.metrics or None,
                each.state or None,
            )
            for each in run.results
        ],
    )
    connection.executemany(
        "INSERT INTO lease VALUES (?, ?, ?, ?, ?)",
        [
            (
                *(added.lastrowid, of_board[each.exporter]),
                *(_milliseconds(each.queued), _milliseconds(each.ready), each.has_error),
            )
            for each in run.leases
        ],
    )
    return True


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


class _Numbers:
    """The numbers of names in a table; a name without a number gets one."""

    def __init__(self, connection: sqlite3.Connection, table: str, column: str) -> None:
        self._connection = connection
        self._found: dict[str, int] = {}
        self._find = f"SELECT id FROM {table} WHERE {column} = ?"
        self._insert = f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)"

    def __getitem__(self, name: str) -> int:
        if name not in self._found:
            self._connection.execute(self._insert, (name,))
            [self._found[name]] = self._connection.execute(self._find, (name,)).fetchone()
        return self._found[name]


def oldest(connection: sqlite3.Connection, max_bytes: int) -> list[int]:
    """Return the runs to remove because the file is too large: the oldest, never the newest."""
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _SIZES)
    [count] = connection.execute("SELECT count(*) FROM run").fetchone()
    if (pages - free) * size <= max_bytes or count <= 1:
        return []
    query = "SELECT id FROM run ORDER BY start LIMIT ?"
    return [number for (number,) in connection.execute(query, (min(_REMOVED_AT_ONCE, count - 1),))]


def remove(connection: sqlite3.Connection, runs: Sequence[int]) -> None:
    """Remove runs with their results, and the names that no other run has."""
    numbers = [(number,) for number in runs]
    for table, column in (("result", "run"), ("lease", "run"), ("run", "id")):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", numbers)
    if runs:
        connection.execute("DELETE FROM test WHERE NOT EXISTS (SELECT 1 FROM result WHERE result.test = test.id)")
        connection.execute("DELETE FROM board WHERE id NOT IN (SELECT board FROM result UNION SELECT board FROM lease)")

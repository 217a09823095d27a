"""`HistoryFile`: one SQLite file with the results of runs."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from pytest_jumpstarter.errors import HistoryError
from pytest_jumpstarter.history.results import LeaseFacts, Past, Result, RunResults
from pytest_jumpstarter.history.rows import RUN_COLUMNS, add, oldest, remove
from pytest_jumpstarter.history.schema import APPLICATION_ID, RESULTS, TABLES, VERSION

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another writer of the same file."""

MAX_BYTES = 200_000_000
"""The size of a file, beyond which its oldest runs are removed."""

_CACHE_KIB = 65_536  # the results of one test are all over the file
_NEWEST_LEASES = 20_000  # that count for the health of boards
_NEWEST = 500  # results of a test that count for its verdicts
_BATCH = 100  # tests of which results are read at once


class HistoryFile:
    """
    One file. Every method opens and closes it, so that no file is open while tests run.

    Raises:
        HistoryError: It cannot be read or written, is of another program, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, runs: Iterable[RunResults], *, max_bytes: int = MAX_BYTES, is_shared: bool = True) -> int:
        """
        Add runs that the file does not have yet, all or none, and return how many these are.

        Args:
            runs: The runs.
            max_bytes: Remove the oldest runs if the file is larger.
            is_shared: Whether several processes may write at once, so that SQLite needs its write-ahead log.
        """
        self._check_before_write()
        with self._opened(is_read_only=False) as connection:
            _create(connection, self.path, is_shared=is_shared)
            connection.execute("BEGIN IMMEDIATE")
            count = sum([add(connection, run) for run in runs])
            remove(connection, oldest(connection, max_bytes))
            connection.execute("COMMIT")
        return count

    def check(self) -> None:
        """Check that it can be read."""
        with self._opened():
            pass

    def past(
        self, tests: Sequence[str] | None, *, most: int | None = None
    ) -> tuple[dict[tuple[str, str], list[Past]], dict[str, str]]:
        """
        Return the newest results of tests, by test and role, and the labels of each board.

        Args:
            tests: The tests; None for all.
            most: No more tests after so many results; None for all.
        """
        found: dict[tuple[str, str], list[Past]] = defaultdict(list)
        with self._opened() as connection:
            words = dict(connection.execute("SELECT id, text FROM word"))
            boards = {number: facts for number, *facts in connection.execute("SELECT id, exporter, labels FROM board")}
            runs = {number: facts for number, *facts in connection.execute(_STARTS)}
            if tests is None:
                tests = [name for (name,) in connection.execute("SELECT name FROM test ORDER BY name")]
            size = 1 if len(runs) > 1 else _BATCH  # of one run, as in each file of a folder, a test has few results
            count = 0
            for start in range(0, len(tests), size):
                for test, run, role, board, outcome, call in _newest(connection, tests[start : start + size]):
                    uuid, began, commit = runs[run]
                    found[test, words[role]].append(Past(uuid, began, commit, boards[board][0], words[outcome], call))
                    count += 1
                if most is not None and count >= most:
                    break
        return found, {name: labels for name, labels in boards.values() if name}

    def labels(self) -> dict[str, str]:
        """Return the labels of each board, by the name of its exporter."""
        with self._opened() as connection:
            return dict(connection.execute("SELECT exporter, labels FROM board WHERE exporter != ''"))

    def leases(self) -> list[tuple[str, LeaseFacts]]:
        """Return the newest leases, the newest first, each with the uuid of its run."""
        with self._opened() as connection:
            rows = connection.execute(f"{_LEASES} ORDER BY lease.rowid DESC LIMIT ?", (_NEWEST_LEASES,))
            return [(run, LeaseFacts(*facts)) for run, *facts in rows]

    def seconds(self, but: Collection[str], *, most: int) -> tuple[set[str], list[tuple[str, float, int]]]:
        """
        Return the runs, and how long each test took: its name, the sum of its newest results, and how many these are.

        Args:
            but: Runs whose results do not count: another file has them, too.
            most: How many results count.
        """
        with self._opened() as connection:
            runs = {uuid: number for number, uuid, *_ in connection.execute(_STARTS)}
            others = ", ".join(str(runs[uuid]) for uuid in runs.keys() & set(but))
            query = f"{_SECONDS} - ? AND run NOT IN ({others}) GROUP BY test.id"
            return set(runs), connection.execute(query, (most,)).fetchall()

    def runs(self) -> list[RunResults]:
        """Return all runs, the oldest first, without their results."""
        with self._opened() as connection:
            return [_run(row) for row in connection.execute(f"{_RUNS} ORDER BY start")]

    def full_runs(self) -> Iterator[RunResults]:
        """Yield all runs with their results and leases, the oldest first."""
        with self._opened() as connection:
            for number, *row in connection.execute(f"{_NUMBERED_RUNS} ORDER BY start").fetchall():
                results = connection.execute(f"{RESULTS} WHERE result.run = ? ORDER BY result.rowid", (number,))
                kept = [Result(*result[: len(Result._fields)]) for result in results]
                leases = connection.execute(f"{_LEASES} WHERE lease.run = ? ORDER BY lease.rowid", (number,))
                yield _run(row, kept, [LeaseFacts(*facts) for _, *facts in leases])

    def prune(self, *, keep: int) -> int:
        """Remove all but the newest `keep` runs, give the space back to the disk, and return how many were removed."""
        with self._opened(is_read_only=False) as connection:
            _check(connection, self.path)
            connection.execute("BEGIN IMMEDIATE")
            query = "SELECT id FROM run ORDER BY start DESC LIMIT -1 OFFSET ?"
            old = [number for (number,) in connection.execute(query, (keep,))]
            remove(connection, old)
            connection.execute("COMMIT")
            connection.execute("VACUUM")
        return len(old)

    def _check_before_write(self) -> None:
        """Check that the file is new, empty, as one that another process has just made, or a history."""
        if not os.path.exists(self.path) or not os.path.getsize(self.path):
            return
        with self._opened(is_checked=False) as connection:
            if not _is_empty(connection):
                _check(connection, self.path)

    @contextmanager
    def _opened(self, *, is_read_only: bool = True, is_checked: bool = True) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect(is_read_only=is_read_only)) as connection:
                if is_read_only and is_checked:
                    _check(connection, self.path)
                yield connection
        except (sqlite3.Error, OSError, UnicodeError, OverflowError) as exc:
            raise HistoryError(f"{self.path}: {_reason(exc)}") from exc

    def _connect(self, *, is_read_only: bool) -> sqlite3.Connection:
        if is_read_only and not self.path.is_file():
            raise HistoryError(f"{self.path}: there is no such file")
        # A reader that may write removes SQLite's write-ahead log when it closes the file.
        uri = f"{self.path.absolute().as_uri()}?mode={'rw' if is_read_only else 'rwc'}"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
        if not is_read_only:
            connection.execute("PRAGMA synchronous = NORMAL")
            return connection
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("PRAGMA application_id")
        except sqlite3.OperationalError:  # a folder that cannot be written has no place for the write-ahead log
            connection.close()
            connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
        return connection


_STARTS = "SELECT id, uuid, start, commit_name FROM run"
# The joins are made in Python: this reads many rows at the end of a run.
_PAST = "SELECT test, run, role, board, outcome, call_ms / 1000.0 FROM result"
_SECONDS = (
    "SELECT name, sum(coalesce(setup_ms, 0) + coalesce(call_ms, 0) + coalesce(teardown_ms, 0)) / 1000.0, count(*) "
    "FROM result JOIN test ON test.id = result.test "
    "WHERE result.rowid > (SELECT max(rowid) FROM result)"
)
_LEASES = (
    "SELECT run.uuid, exporter, labels, queued_ms / 1000.0, ready_ms / 1000.0, has_error "
    "FROM lease JOIN board ON board.id = lease.board JOIN run ON run.id = lease.run"
)
_RUNS = f"SELECT {RUN_COLUMNS} FROM run"
_NUMBERED_RUNS = f"SELECT id, {RUN_COLUMNS} FROM run"


def _newest(connection: sqlite3.Connection, tests: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the newest results of some tests together, the newest first."""
    marks = ", ".join("?" * len(tests))
    names = dict(connection.execute(f"SELECT id, name FROM test WHERE name IN ({marks})", tests))
    numbers = ", ".join(map(str, names))
    rows = connection.execute(f"{_PAST} WHERE test IN ({numbers}) ORDER BY rowid DESC LIMIT {_NEWEST * len(names)}")
    return [(names[test], *row) for test, *row in rows]


def _run(row: Sequence[object], results: Sequence[Result] = (), leases: Sequence[LeaseFacts] = ()) -> RunResults:
    names = ("uuid", "start", "stop", "commit", "ci", "build", "job", "url")
    return RunResults(**dict(zip(names, row, strict=True)), results=results, leases=leases)  # type: ignore[arg-type]


def _reason(exc: Exception) -> str:
    text = str(exc)
    if "not a database" in text:
        return "it is not a history file"
    if "locked" in text or "busy" in text:
        return f"another process has been writing to it for more than {BUSY_TIMEOUT:g}s"
    return text


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """
    Check that the file is a history of a known version.

    Raises:
        HistoryError: It is not.
    """
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if application == 0 and _is_empty(connection):
        raise HistoryError(f"{path}: it is empty")
    if application != APPLICATION_ID:
        raise HistoryError(f"{path}: it is a database of another program, and stays as it is")
    if version > VERSION:
        raise HistoryError(
            f"{path}: it has version {version} and this pytest-jumpstarter knows versions up to {VERSION}; "
            "it stays as it is; update pytest-jumpstarter"
        )


def _create(connection: sqlite3.Connection, path: Path, *, is_shared: bool) -> None:
    """Make the tables in an empty file; check any other."""
    if not _is_empty(connection):
        _check(connection, path)
        return
    if is_shared:
        with suppress(sqlite3.OperationalError):  # another process does it at this moment
            connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if _is_empty(connection):  # another process may have been first
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _is_empty(connection: sqlite3.Connection) -> bool:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    return application == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()

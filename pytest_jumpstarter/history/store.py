"""`History`: what runs learned, in one file that runs share, or in a folder with one file for each run."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pytest_jumpstarter.client.exporter_sets import set_of
from pytest_jumpstarter.errors import HistoryError
from pytest_jumpstarter.history.file import MAX_BYTES, HistoryFile
from pytest_jumpstarter.history.results import LeaseFacts, Past, RunResults
from pytest_jumpstarter.host import real_time

SUFFIX = ".jmphistory"
"""The suffix of the files in a folder; other files in it are not touched."""

_Answer = TypeVar("_Answer")

_MOST_RESULTS = 50_000  # that verdicts are looked for in
_MOST_TIMES = 100_000  # results of which the average is taken
_PART = re.compile(r"\d{8}T\d{6}-.+\.part(-journal)?")  # a file that is being written, and what SQLite puts beside it
_STALE = 3600.0  # seconds after which nobody writes such a file any more


class History:
    """
    One or several places, each a file or a folder.

    A path that is a folder, or that does not exist and has no suffix, is a folder.

    Attributes:
        problems: The files that could not be read, each with the reason.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self.problems: list[str] = []

    def write(self, run: RunResults) -> None:
        """
        Add a run at the first path.

        Raises:
            HistoryError: It cannot be written.
        """
        path = self._paths[0]
        if not is_folder(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise HistoryError(f"{path}: {exc.strerror or exc}") from exc
            HistoryFile(path).write([run])
            return
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(run.start))
        target = path / f"{stamp}-{run.uuid}{SUFFIX}"
        part = target.with_suffix(".part")
        try:
            path.mkdir(parents=True, exist_ok=True)
            _remove_stale_parts(path)
            HistoryFile(part).write([run], is_shared=False)
            part.replace(target)
            _bound(path, target)
        except OSError as exc:
            raise HistoryError(f"{path}: {exc.strerror or exc}") from exc
        finally:
            with suppress(OSError):  # there is none, or the reason is on its way
                part.unlink()

    def past(self, tests: Iterable[str] | None = None) -> dict[tuple[str, str], list[Past]]:
        """
        Return results by test and role, those of one ExporterSet under one name.

        Args:
            tests: These tests, until there are enough results; None for all tests.
        """
        found: dict[tuple[str, str], list[Past]] = defaultdict(list)
        labels: dict[str, str] = {}
        limit = None if tests is None else _MOST_RESULTS // max(1, sum(1 for _ in self._paths_of_files()))
        wanted = None if tests is None else list(tests)
        seen: set[str] = set()
        for ours, boards in self._answers(lambda file: file.past(wanted, most=limit)):
            for key, past in ours.items():
                found[key] += [each for each in past if each.run not in seen]
            seen |= {each.run for past in ours.values() for each in past}
            labels |= boards
        if names := _names(labels):
            for past in found.values():
                past[:] = [each._replace(board=names.get(each.board, each.board)) for each in past]
        return found

    def labels(self) -> dict[str, str]:
        """Return the labels of each board, by the name of its exporter."""
        return {name: labels for ours in self._answers(HistoryFile.labels) for name, labels in ours.items()}

    def leases(self) -> list[LeaseFacts]:
        """Return all leases on boards that keep their names; a board of an ExporterSet has no health of its own."""
        changing = _names(self.labels())
        found: list[LeaseFacts] = []
        seen: set[str] = set()
        for ours in self._answers(HistoryFile.leases):
            found += [lease for run, lease in ours if run not in seen]
            seen |= {run for run, _ in ours}
        return [lease for lease in found if lease.exporter and lease.exporter not in changing]

    def seconds(self) -> dict[str, float]:
        """Return how long each test took on average, in the newest results."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        seen: set[str] = set()
        left = _MOST_TIMES
        for runs, took in self._answers(lambda file: file.seconds(seen, most=_MOST_TIMES), newest_first=True):
            for test, seconds, count in took:
                sums[test][0] += seconds
                sums[test][1] += count
                left -= count
            seen.update(runs)
            if left <= 0:
                break
        return {test: seconds / count for test, (seconds, count) in sums.items()}

    def runs(self) -> list[RunResults]:
        """Return all runs, the oldest first, without their results."""
        found = {run.uuid: run for ours in self._answers(HistoryFile.runs) for run in ours}
        return sorted(found.values(), key=lambda run: run.start)

    def full_runs(self) -> Iterator[RunResults]:
        """Yield all runs with their results, the oldest first in each file."""
        seen: set[str] = set()
        for file in self._answers(_checked):
            for run in file.full_runs():
                if run.uuid not in seen:
                    yield run
                seen.add(run.uuid)

    def _answers(self, question: Callable[[HistoryFile], _Answer], *, newest_first: bool = False) -> Iterator[_Answer]:
        """Yield what each file says that can be read, the oldest first; note the problems of the others."""
        paths = list(self._paths_of_files())
        for path in reversed(paths) if newest_first else paths:
            try:
                answer = question(HistoryFile(path))
            except HistoryError as exc:
                self._note(exc)
            else:
                yield answer

    def _paths_of_files(self) -> Iterator[Path]:
        for path in self._paths:
            try:
                yield from files_of(path)
            except HistoryError as exc:
                self._note(exc)

    def _note(self, problem: HistoryError) -> None:
        if str(problem) not in self.problems:
            self.problems.append(str(problem))


def _checked(file: HistoryFile) -> HistoryFile:
    """Return a file that can be read."""
    file.check()
    return file


def known_seconds(path: Path) -> dict[str, float]:
    """Return how long each test took; nothing if the history cannot be read, which the end of the run shows."""
    try:
        return History(path).seconds()
    except Exception:  # whatever it is, it must not change the run
        return {}


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder of history files, or will be one."""
    # Not with the methods of `path`: up to Python 3.13 they raise if the path is too long, or below a closed folder.
    return os.path.isdir(path) or (not os.path.exists(path) and not path.suffix)


def files_of(path: Path) -> list[Path]:
    """
    Return the history files at a path, the oldest first; none in a folder that does not exist yet.

    Raises:
        HistoryError: The folder cannot be read.
    """
    if not is_folder(path):
        return [path]
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as exc:
        raise HistoryError(f"{path}: {getattr(exc, 'strerror', '') or exc}") from exc
    return [path / name for name in sorted(names) if name.endswith(SUFFIX)]


def _remove_stale_parts(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder."""
    for path in folder.iterdir():
        if _PART.fullmatch(path.name):
            with suppress(OSError):  # another writer does it at this moment
                if real_time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()


def _bound(folder: Path, newest: Path) -> None:
    """Remove the oldest files of a folder that is too large."""
    files = [path for path in files_of(folder) if path != newest]
    size = newest.stat().st_size + sum(path.stat().st_size for path in files)
    while files and size > MAX_BYTES:
        oldest = files.pop(0)
        size -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)


_CHANGING = 5
"""Exporters of this kind from which on they are taken for those of one set."""


def _names(labels: dict[str, str]) -> dict[str, str]:
    """Return one common name for exporters with the same labels whose names differ only in a generated end."""
    sets: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, text in labels.items():
        sets[set_of(name), text].append(name)
    return {
        name: f"{stem}-*" for (stem, _), names in sets.items() if stem and len(names) >= _CHANGING for name in names
    }

"""`History`: what runs learned, in one file that runs share, or in a folder with one file for each run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_jumpstarter.client.exporter_sets import set_of
from pytest_jumpstarter.errors import HistoryError
from pytest_jumpstarter.history.file import MAX_BYTES, HistoryFile
from pytest_jumpstarter.history.results import LeaseFacts, Past, RunResults

SUFFIX = ".jmphistory"
"""The suffix of the files in a folder; other files in it are not touched."""

_MOST_RESULTS = 50_000  # that verdicts are looked for in


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
            HistoryFile(part).write([run], is_shared=False)
            part.replace(target)
            _bound(path, target)
        except OSError as exc:
            raise HistoryError(f"{path}: {exc.strerror or exc}") from exc
        finally:
            part.unlink(missing_ok=True)

    def past(self, tests: Iterable[str] | None = None) -> dict[tuple[str, str], list[Past]]:
        """
        Return results by test and role, those of one ExporterSet under one name.

        Args:
            tests: These tests, until there are enough results; None for all tests.
        """
        found: dict[tuple[str, str], list[Past]] = defaultdict(list)
        names = _names(self.labels())
        files = list(self._files())
        limit = None if tests is None else _MOST_RESULTS // max(1, len(files))
        seen: set[str] = set()
        for file in files:
            ours = file.past(file.tests() if tests is None else tests, most=limit)
            for key, past in ours.items():
                found[key] += [
                    each._replace(board=names.get(each.board, each.board)) for each in past if each.run not in seen
                ]
            seen |= {each.run for past in ours.values() for each in past}
        return found

    def labels(self) -> dict[str, str]:
        """Return the labels of each board, by the name of its exporter."""
        return {name: labels for file in self._files() for name, labels in file.labels().items()}

    def leases(self) -> list[LeaseFacts]:
        """Return all leases on boards that keep their names; a board of an ExporterSet has no health of its own."""
        changing = _names(self.labels())
        found: list[LeaseFacts] = []
        seen: set[str] = set()
        for file in self._files():
            ours = file.leases()
            found += [lease for run, lease in ours if run not in seen]
            seen |= {run for run, _ in ours}
        return [lease for lease in found if lease.exporter and lease.exporter not in changing]

    def seconds(self) -> dict[str, float]:
        """Return how long each test took on average, in its newest results."""
        return {test: seconds for file in self._files() for test, seconds in file.seconds().items()}

    def runs(self) -> list[RunResults]:
        """Return all runs, the oldest first, without their results."""
        found = {run.uuid: run for file in self._files() for run in file.runs()}
        return sorted(found.values(), key=lambda run: run.start)

    def full_runs(self) -> Iterator[RunResults]:
        """Yield all runs with their results, the oldest first in each file."""
        seen: set[str] = set()
        for file in self._files():
            for run in file.full_runs():
                if run.uuid not in seen:
                    yield run
                seen.add(run.uuid)

    def _files(self) -> Iterator[HistoryFile]:
        """Yield the files that can be read, the oldest first; note the problems of the others."""
        for path in self._paths:
            for each in files_of(path):
                try:
                    file = HistoryFile(each)
                    file.check()
                except HistoryError as exc:
                    if str(exc) not in self.problems:
                        self.problems.append(str(exc))
                else:
                    yield file


def known_seconds(path: Path) -> dict[str, float]:
    """Return how long each test took; nothing if the history cannot be read, which the end of the run shows."""
    try:
        return History(path).seconds()
    except HistoryError:
        return {}


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder of history files, or will be one."""
    return path.is_dir() or (not path.exists() and not path.suffix)


def files_of(path: Path) -> list[Path]:
    """Return the history files at a path, the oldest first."""
    return sorted(path.glob(f"*{SUFFIX}")) if is_folder(path) else [path]


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

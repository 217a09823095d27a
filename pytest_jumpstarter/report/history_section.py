"""The history of `--jmp-history`: written once, at the end of the run, and what it says about this run's tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from textwrap import wrap

import pytest

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.history.board_health import health
from pytest_jumpstarter.history.results import LeaseFacts, Result, RunResults
from pytest_jumpstarter.history.store import History, known_seconds
from pytest_jumpstarter.history.verdicts import verdicts
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.report.outcomes import FAILED
from pytest_jumpstarter.report.part import SUMMARY_TABLE
from pytest_jumpstarter.report.recorded_table import RecordedTable
from pytest_jumpstarter.report.run_data import HistoryData, RunData, TestData
from pytest_jumpstarter.report.run_end import run_end

_LINES, _COLUMNS = 3, 80
_SHORTEST_NAME = 12
_LONGEST_REASON, _LONGEST_NAME = 200, 1000  # characters


class HistorySection:
    """
    Writes the results of the run, and shows the verdicts about its tests.

    No failure of the history changes a verdict or the exit code: it is a warning at the end.
    """

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = Path(config.invocation_params.dir, path)
        self._session: pytest.Session | None = None
        self._data: HistoryData | None = None
        self._of_workers: list[Sequence[str]] = []
        self._is_estimated = False

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Note the session, whose end is told to the history."""
        self._session = session

    def pytest_report_collectionfinish(self, items: Sequence[pytest.Item]) -> list[str]:
        """Show how long the tests took before; nothing at the first run, or if the history cannot be read."""
        return self._estimate([item.nodeid for item in items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note what xdist's workers have collected, each the same."""
        self._of_workers.append(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Under xdist, show the estimate before the first test: until then, xdist writes its line of workers."""
        if not self._of_workers:
            return
        workers, self._of_workers = self._of_workers, []
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and not self._is_estimated:
            for line in self._estimate(workers[0], workers=len(workers)):
                reporter.write_line(line)
        self._is_estimated = True  # a worker that replaces a crashed one collects again

    def _estimate(self, ids: Sequence[str], *, workers: int = 1) -> list[str]:
        """Return lines that say how long the tests took in earlier runs, and what that is for several workers."""
        if self._config.get_verbosity() < 0:
            return []
        took = known_seconds(self._path)
        known = [took[each] for each in ids if each in took]
        if not known:
            return []
        count = f"{len(known)} of {len(ids)} tests" if len(known) < len(ids) else "these tests"
        line = f"jumpstarter: {count} took {format_duration(sum(known))} in earlier runs, without waiting for boards"
        if workers > 1 and self._config.getoption("dist") != "each":  # with that, each worker runs all tests
            line += f"; at least {format_duration(max(sum(known) / workers, *known))} with {workers} workers"
        return _wrapped(line)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Write the results, if the terminal did not show its summary, such as after an internal error."""
        try:
            return (yield)
        finally:
            self._finish()

    def _finish(self) -> None:
        """Write the results, unless a report did so: then every other plugin has seen the end of the run."""
        table = self._config.stash.get(SUMMARY_TABLE, None)
        if self._data is None and isinstance(table, RecordedTable) and self._session is not None:
            end = run_end(self._config).settled()
            self.add(table.run_record.as_data(end, versions={}, origin=table.origin._asdict()))

    def add(self, data: RunData) -> None:
        """Write the results, once, and add what the history says to `data`."""
        if self._data is None:
            self._data = self._written(data)
        data["history"] = self._data

    def _written(self, data: RunData) -> HistoryData:
        found: HistoryData = {"path": _safe(str(self._path)), "verdicts": [], "boards": [], "problems": []}
        history = History(self._path)
        try:
            run = run_results(data)
            if run.results or run.leases:
                history.write(run)
        except Exception as exc:  # whatever it is, it must not change the run
            found["problems"].append(_safe(f"not written: {str(exc) or type(exc).__name__}"))
        try:
            _judge(history, data, found)
        except Exception as exc:
            found["problems"].append(_safe(f"not read: {str(exc) or type(exc).__name__}"))
        found["problems"] = found["problems"][:1] or [_safe(each) for each in history.problems]
        return found

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what failures follow, in three lines at most, and why the history could not be used."""
        self._finish()
        if self._data is None:
            return
        for each in [verdict for verdict in self._data["verdicts"] if verdict["has_failed"]][:_LINES]:
            terminalreporter.write_line(_line(each["test"], each["words"]))
        for line in _warning(self._data["problems"]):
            terminalreporter.write_line(line, yellow=True)


def _judge(history: History, data: RunData, found: HistoryData) -> None:
    """Add verdicts about the tests of this run, and the health of its boards."""
    tests = [test for test in data["tests"] if test["devices"]]
    failed = {_safe(test["id"]) for test in tests if test["outcome"] in FAILED}
    names = dict.fromkeys(sorted((_safe(test["id"]) for test in tests), key=lambda name: name not in failed))
    roles = {(test["id"], device["role"]) for test in tests for device in test["devices"]}
    found["verdicts"] = [
        {**verdict._asdict(), "has_failed": verdict.test in failed}  # type: ignore[typeddict-item]  # mypy sees no keys
        for verdict in verdicts(history.past(names), tests=len(roles))
    ]
    used = {_safe(device["exporter"]) for test in tests for device in test["devices"]}
    found["boards"] = [
        {**board._asdict(), "errors_per_100": board.errors_per_100}  # type: ignore[typeddict-item]  # likewise
        for board in health(history.leases())
        if board.exporter in used
    ]


def run_results(data: RunData) -> RunResults:
    """Return what the history keeps of a run; secrets and control characters are removed from every text."""
    run, origin = data["run"], {name: _safe(text) for name, text in data["run"]["origin"].items()}
    return RunResults(
        uuid=uuid.uuid4().hex,
        start=run["start"],
        stop=run["stop"],
        commit=origin["commit"],
        ci=origin["ci"],
        build=origin["build"],
        job=origin["job"],
        url=origin["url"],
        results=[result for test in data["tests"] for result in _results(test)],
        leases=list(_leases(data)),
    )


def _results(test: TestData) -> Iterator[Result]:
    error = test["device_error"]
    lost = error["exporter"] if error is not None else ""
    setup, waited = _seconds(test, "setup"), max((device["wait_seconds"] for device in test["devices"]), default=0.0)
    devices = [(device["role"], device["exporter"], device["labels"], device["state"]) for device in test["devices"]]
    for role, exporter, labels, state in devices or ([("", lost, {}, "")] if error is not None else []):
        yield Result(
            test=_safe(test["id"], _LONGEST_NAME),
            role=_safe(role),
            exporter=_safe(exporter),
            labels=_labels(labels),
            outcome=_safe(test["outcome"]),
            reason=_safe(test["reason"], _LONGEST_REASON) if test["outcome"] in FAILED else "",
            device_error=_safe(error["kind"]) if error is not None else "",
            setup=max(0.0, setup - waited) if setup is not None else None,
            call=_seconds(test, "call"),
            teardown=_seconds(test, "teardown"),
            state=_safe(state),
            metrics=json.dumps(test["metrics"], ensure_ascii=False) if test["metrics"] else "",
        )


def _leases(data: RunData) -> Iterator[LeaseFacts]:
    errors = [test["device_error"] for test in data["tests"] if test["device_error"] is not None]
    lost = {(error["lease"], error["exporter"]) for error in errors}
    for lease in data["leases"]:
        if lease["ready"] is None:
            continue
        is_usable = lease["prepared"] or lease["connected"]
        yield LeaseFacts(
            exporter=_safe(lease["exporter"]),
            labels=_labels(lease["labels"]),
            queued=lease["ready"] - lease["asked"],
            ready=is_usable - lease["ready"] if is_usable is not None else None,
            has_error=(lease["lease"], lease["exporter"]) in lost,
        )


def _seconds(test: TestData, phase: str) -> float | None:
    times = test["phases"].get(phase)
    return times["stop"] - times["start"] if times is not None else None


def _labels(labels: dict[str, str] | None) -> str:
    return _safe(",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())))


def _safe(text: str, limit: int = _LONGEST_NAME) -> str:
    """Return text of one line without secrets and control characters, and not longer than `limit`."""
    words = safe(" ".join(text.split()))
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in words)[:limit]


def _warning(problems: Sequence[str]) -> list[str]:
    """Return the lines for the first problem, and how many more there are."""
    if not problems:
        return []
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return _wrapped(f"jumpstarter history: {problems[0]}{more}")


def _wrapped(words: str) -> list[str]:
    """Return lines of the terminal's width; a path is not broken."""
    return wrap(words, _COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _line(test: str, words: str) -> str:
    """Return a line that fits into the terminal; the name of the test is cut before the numbers are."""
    name = test.rpartition("/")[2]
    space = max(_SHORTEST_NAME, _COLUMNS - len(words) - 1)
    name = name if len(name) <= space else f"…{name[1 - space :]}"
    line = f"{name} {words}"
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}…"

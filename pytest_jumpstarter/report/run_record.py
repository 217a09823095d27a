"""
`RunRecord`: collects what happened in a run, in the process that prints, and returns it as plain data.

`--jmp-report FILE.json` writes what `RunRecord.as_data` returns. `run_schema.json` beside this file describes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import pytest

from pytest_jumpstarter.evidence.record import LeaseTimes, Record
from pytest_jumpstarter.evidence.sections import clean
from pytest_jumpstarter.report.run_data import ExporterData, RunData, TestData

VERSION = 1
"""The version of the schema; it is increased if programs could misread a new file by the old schema."""

_PHASES = ("setup", "call", "teardown")
_LINES, _CHARACTERS = 200, 32_768  # at most, for one section
_TEXT_LIMIT = 8_000_000  # characters of all sections together
_ALWAYS_KEPT = ("console of ", "exporter log of ")  # the titles of sections that are kept for every test
_BY_SEVERITY = ("", "passed", "skipped", "xfailed", "xpassed", "rerun", "retried", "failed", "error", "device error")


class RunRecord:
    """
    Collects reports and leases, in any order.

    Attributes:
        leases: The latest news of each lease, by its key.
    """

    def __init__(self) -> None:
        self.leases: dict[str, LeaseTimes] = {}
        self._tests: list[TestData] = []
        self._open: dict[tuple[str, str], TestData] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._text_left = _TEXT_LIMIT
        self._start = time.time()

    def add(self, report: pytest.TestReport, record: Record | None, category: str) -> None:
        """
        Add the report of one phase.

        Args:
            report: A test's report, with or without devices.
            record: Our record on the report; None if it has none.
            category: The category that pytest counts it in: `passed`, `failed`, `rerun`, …; empty if it is not counted.
        """
        worker = record["worker"] if record is not None else _worker(report)
        key = (worker, report.nodeid)
        test = self._open.get(key)
        if test is None:
            self._attempts[key] += 1
            test = self._open[key] = _new_test(report.nodeid, worker, self._attempts[key])
            self._tests.append(test)
        if report.when in _PHASES:
            test["phases"][report.when] = {"start": report.start, "stop": report.stop}
        test["outcome"] = max(test["outcome"], category, key=_rank)
        if record is not None:
            test["devices"] = record["devices"] or test["devices"]
            test["device_error"] = record.get("device_error") or test["device_error"]
            test["artifacts"] = record.get("artifacts") or test["artifacts"]
            self.add_leases(record.get("leases", []))
        self._add_text(test, report, record, category)
        if report.when not in _PHASES[:2]:  # the teardown, or xdist's "???" for a test whose worker died
            del self._open[key]

    def add_leases(self, leases: Iterable[LeaseTimes]) -> None:
        """Add the latest news of leases."""
        for lease in leases:
            self.leases[lease["key"]] = lease

    def exporters(self) -> list[ExporterData]:
        """Return what each exporter did in this run, by name; waits without success are last, under an empty name."""
        tests: Counter[str] = Counter()
        faults: Counter[str] = Counter()
        for test in self._tests:
            names = {device["exporter"] for device in test["devices"]}
            tests.update(names)
            if test["device_error"]:
                at_fault = test["device_error"].get("exporter") or (next(iter(names)) if len(names) == 1 else "")
                faults[at_fault] += 1
        by_name: dict[str, list[LeaseTimes]] = {}
        for lease in self.leases.values():
            by_name.setdefault(lease["exporter"] if lease["ready"] else "", []).append(lease)
        by_lease: dict[str, list[TestData]] = {}
        for test in self._tests:
            for device in test["devices"]:
                by_lease.setdefault(device["key"], []).append(test)
        return [
            _exporter(name, by_name.get(name, []), by_lease, tests[name], faults[name])
            for name in sorted({*by_name, *faults}, key=lambda name: (not name, name))
        ]

    def as_data(self, *, exit_code: int, versions: dict[str, str], origin: dict[str, str]) -> RunData:
        """Return everything, in the form that `run_schema.json` describes."""
        exporters = self.exporters()
        phases = [phase for test in self._tests for phase in test["phases"].values()]
        return {
            "format": "pytest-jumpstarter-run",
            "version": VERSION,
            "run": {
                "start": min([self._start, *(phase["start"] for phase in phases)]),
                "stop": time.time(),
                "exit_code": exit_code,
                "versions": versions,
                "origin": origin,
            },
            "summary": {
                "tests": dict(Counter(test["outcome"] or "none" for test in self._tests)),
                "device_errors": sum(each["device_errors"] for each in exporters),
                "queued_seconds": round(sum(each["queued_seconds"] for each in exporters), 3),
                "held_seconds": round(sum(each["held_seconds"] for each in exporters), 3),
                "busy_seconds": round(sum(each["busy_seconds"] for each in exporters), 3),
            },
            "exporters": exporters,
            "leases": sorted(self.leases.values(), key=lambda lease: lease["asked"]),
            "tests": self._tests,
        }

    def _add_text(self, test: TestData, report: pytest.TestReport, record: Record | None, category: str) -> None:
        is_bad = category in ("failed", "error", "device error", "rerun")
        if is_bad:
            test["reason"] = test["reason"] or clean(_reason(report, record))
            self._add_section(test, f"{report.when} failed", report.longreprtext)
        elif category == "skipped" and isinstance(report.longrepr, tuple):
            test["reason"] = clean(str(report.longrepr[2]))
        for title, text in report.sections:
            if is_bad or title.startswith(_ALWAYS_KEPT):
                self._add_section(test, title, text)

    def _add_section(self, test: TestData, title: str, text: str) -> None:
        """Keep the last lines of a text, unless all texts together are too long."""
        kept = "\n".join(clean(text[-_CHARACTERS:]).splitlines()[-_LINES:])
        kept = kept if len(kept) <= self._text_left else "(left out: the texts of this run are too long)"
        self._text_left -= len(kept)
        test["sections"][title] = kept


def _new_test(node_id: str, worker: str, attempt: int) -> TestData:
    return {
        "id": node_id,
        "worker": worker,
        "attempt": attempt,
        "outcome": "",
        "reason": "",
        "phases": {},
        "devices": [],
        "device_error": None,
        "sections": {},
        "artifacts": None,
    }


def _busy(lease: LeaseTimes, tests: list[TestData], now: float) -> float:
    """Return how long tests ran on a lease; the preparation of its device, during the first setup, does not count."""
    start, stop = lease["prepared"] or lease["ready"] or now, lease["released"] or now
    phases = [phase for test in tests for phase in test["phases"].values()]
    return float(sum(max(0.0, min(each["stop"], stop) - max(each["start"], start)) for each in phases))


def _exporter(
    name: str, leases: list[LeaseTimes], by_lease: dict[str, list[TestData]], tests: int, faults: int
) -> ExporterData:
    now = time.time()
    held = [lease for lease in leases if lease["ready"]]
    seconds = sum((lease["released"] or now) - (lease["ready"] or now) for lease in held)
    busy = sum(_busy(lease, by_lease.get(lease["key"], []), now) for lease in held)
    return {
        "exporter": name,
        "labels": next((lease["labels"] for lease in leases if lease["labels"]), {}),
        "tests": tests,
        "device_errors": faults,
        "queued_seconds": round(sum((each["ready"] or each["released"] or now) - each["asked"] for each in leases), 3),
        "held_seconds": round(seconds, 3),
        "busy_seconds": round(busy, 3),
        "busy_percent": round(100 * min(1.0, busy / seconds)) if seconds else 0,
    }


def _worker(report: pytest.TestReport) -> str:
    """Return the xdist worker that sent a report, or that died in this test; `main` without xdist."""
    node = getattr(report, "node", None)
    return getattr(report, "worker_id", None) or (node.gateway.id if node is not None else "main")


def _rank(category: str) -> int:
    """Return how bad a category is; one of another plugin is the worst."""
    return _BY_SEVERITY.index(category) if category in _BY_SEVERITY else len(_BY_SEVERITY)


def _reason(report: pytest.TestReport, record: Record | None) -> str:
    """Return the first line of the reason why a test failed."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if record is not None and "device_error" in record:
        text = record["device_error"]["reason"]
    else:
        text = str(crash.message) if crash is not None else report.longreprtext
    return next((line for line in text.splitlines() if line.strip()), "")

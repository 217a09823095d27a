"""
`RunRecord`: collects what happened in a run, in the process that prints, and returns it as plain data.

`--jmp-report FILE.json` writes what `RunRecord.as_data` returns. `run_schema.json` beside this file describes it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pytest_jumpstarter.evidence.record import MAPS, OURS, DeviceFacts, Record, StateTimes, metric_property
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import first_characters, last_characters, safe
from pytest_jumpstarter.masking.structures import safe_record
from pytest_jumpstarter.report.exporter_use import ExporterUse
from pytest_jumpstarter.report.outcomes import FAILED, is_bad_outcome
from pytest_jumpstarter.report.reasons import reason_of, subtest_of
from pytest_jumpstarter.report.run_data import DeviceOfTest, EndData, Property, RunData, TestData

VERSION = 1
"""The version of the schema; it is increased if programs could misread a new file by the old schema."""

_PHASES = ("setup", "call", "teardown")
_LINES, _CHARACTERS = 200, 32_768  # at most, for one section
_TEXT_LIMIT = 8_000_000  # characters of all sections together
_PROPERTIES, _LONGEST_PROPERTY = 200, 1000  # of one test, characters of one value
_ALWAYS_KEPT = ("console of ", "exporter log of ", "tests on ")  # the titles of sections that are kept for every test
_BY_SEVERITY = ("", "passed", "skipped", "xfailed", "xpassed", "rerun", "retried", "failed", "error", "device error")


class RunRecord:
    """
    Collects reports and leases, in any order.

    Attributes:
        use: What each exporter did, and the latest news of each lease.
    """

    def __init__(self) -> None:
        self.use = ExporterUse()
        self._states: dict[str, StateTimes] = {}
        self._tests: list[TestData] = []
        self._open: dict[tuple[str, str], TestData] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._text_left = _TEXT_LIMIT
        self._start = real_time.time()

    def add(self, report: pytest.TestReport, record: Record | None, category: str) -> None:
        """
        Add the report of one phase.

        Args:
            report: A test's report, with or without devices.
            record: Our record on the report; None if it has none.
            category: The category that pytest counts it in: `passed`, `failed`, `rerun`, …; empty if it is not counted.
        """
        category = category.removeprefix("subtests ")  # pytest counts those of its own apart, with `-v`
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
            self.use.add(report, record)
            test["devices"] = [self._held(each, report.stop) for each in record["devices"]] or test["devices"]
            test["device_error"] = record.get("device_error") or test["device_error"]
            test["artifacts"] = record.get("artifacts") or test["artifacts"]
            test["transfers"] += record.get("transfers", [])
            test["metrics"] = record.get("metrics") or test["metrics"]
            self._states.update((state["key"], state) for state in record.get("states", []))
        test["properties"] = _properties(report, test) or test["properties"]
        self._add_text(test, report, record, category)
        if report.when not in _PHASES[:2]:  # the teardown, or xdist's "???" for a test whose worker died
            del self._open[key]

    def as_data(self, end: EndData, *, versions: dict[str, str], origin: dict[str, str]) -> RunData:
        """Return everything, in the form that `run_schema.json` describes."""
        tests = self._with_interrupted(end)
        exporters = self.use.exporters()
        phases = [phase for test in self._tests for phase in test["phases"].values()]
        data: RunData = {
            "format": "pytest-jumpstarter-run",
            "version": VERSION,
            "run": {
                "start": min([self._start, *(phase["start"] for phase in phases)]),
                "stop": real_time.time(),
                **end,
                "versions": versions,
                "origin": origin,
            },
            "summary": {
                "tests": dict(Counter(test["outcome"] or "interrupted" for test in tests)),
                "device_errors": sum(each["device_errors"] for each in exporters),
                "queued_seconds": round(sum(each["queued_seconds"] for each in exporters), 3),
                "held_seconds": round(sum(each["held_seconds"] for each in exporters), 3),
                "busy_seconds": round(sum(each["busy_seconds"] for each in exporters), 3),
            },
            "exporters": exporters,
            "leases": sorted(self.use.leases.values(), key=lambda lease: lease["asked"]),
            "states": sorted(self._states.values(), key=lambda state: state["began"]),
            "tests": tests,
            "history": None,
        }
        found: RunData = safe_record(data, ours=(*OURS, "sections", "text"), maps=MAPS)  # these texts are safe already
        return found

    def _held(self, device: DeviceFacts, until: float) -> DeviceOfTest:
        """Return a device with the time for which it had been held at a moment."""
        lease = self.use.leases.get(device["key"])
        ready, released = (lease["ready"], lease["released"]) if lease is not None else (None, None)
        seconds = min(until, released or until) - ready if ready is not None else 0.0
        return {**device, "hold_seconds": round(max(0.0, seconds), 3)}

    def _with_interrupted(self, end: EndData) -> list[TestData]:
        """Return the tests, with those that did not end marked; one of them may have no report at all."""
        ended = "the run ended" if end["exit_code"] is not None else "the process was killed, or the test still runs"
        mark: Any = {"outcome": "", "reason": f"interrupted: {end['ended_by'] or ended}"}
        open_ = {test["id"]: test for test in self._open.values()}
        broken = [id(test) for test in open_.values() if test["outcome"] in ("", "passed")]
        found: list[TestData] = [{**test, **mark} if id(test) in broken else test for test in self._tests]
        return found + [{**_new_test(each, "", 1), **mark} for each in end["interrupted"] if each not in open_]

    def _add_text(self, test: TestData, report: pytest.TestReport, record: Record | None, category: str) -> None:
        is_bad = category in FAILED
        subtest = f"{title} " if (title := subtest_of(report)) else ""
        if is_bad:
            reason = safe(reason_of(report, record))
            if test["reason"] and report.when == "teardown":  # a further failure, after that of the setup or the test
                reason = f"{test['reason']}; teardown: {reason}"
            test["reason"] = reason if report.when == "teardown" else test["reason"] or reason
            self._add_section(test, f"{subtest}{report.when} failed", report.longreprtext)
        elif category == "skipped" and isinstance(report.longrepr, tuple):
            test["reason"] = safe(str(report.longrepr[2]))
        for title, text in report.sections:
            is_ours = title.startswith(_ALWAYS_KEPT)
            if is_bad or is_ours:
                self._add_section(test, title if is_ours else f"{subtest}{title}", text)

    def _add_section(self, test: TestData, title: str, text: str) -> None:
        """Keep the last lines of a text, unless all texts together are too long."""
        kept = "\n".join(last_characters(text, _CHARACTERS).splitlines()[-_LINES:])
        kept = kept if len(kept) <= self._text_left else "(left out: the texts of this run are too long)"
        self._text_left -= len(kept)
        test["sections"][safe(title)] = kept


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
        "transfers": [],
        "sections": {},
        "artifacts": None,
        "metrics": [],
        "properties": [],
    }


def _properties(report: pytest.TestReport, test: TestData) -> list[Property]:
    """Return what the test recorded itself, without the properties that this plugin adds for JUnit."""
    metrics = {metric_property(metric)[0] for metric in test["metrics"]}
    return [
        {"name": safe(str(name)), "value": first_characters(str(value), _LONGEST_PROPERTY)}
        for name, value in report.user_properties[:_PROPERTIES]
        if not str(name).startswith("jumpstarter.") and str(name) not in metrics
    ]


def _worker(report: pytest.TestReport) -> str:
    """Return the xdist worker that sent a report, or that died in this test; `main` without xdist."""
    node = getattr(report, "node", None)
    return getattr(report, "worker_id", None) or (node.gateway.id if node is not None else "main")


def _rank(category: str) -> int:
    """Return how bad a category is; one of another plugin that is no failure is less bad than all but a pass."""
    if category in _BY_SEVERITY:
        return _BY_SEVERITY.index(category)
    return len(_BY_SEVERITY) if is_bad_outcome(category) else _BY_SEVERITY.index("skipped")

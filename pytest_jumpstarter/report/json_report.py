"""Our evidence in the file of pytest-json-report, which ignores sections of reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from pytest_jumpstarter.evidence.record import Record, record_of
from pytest_jumpstarter.report.part import ReportPart

_PHASES = ("setup", "call", "teardown")


class JsonReport(ReportPart):
    """In the process that prints: adds devices and sections to each phase of a test, and corrects retried tests."""

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Do nothing: the hooks below do all."""

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_json_runtest_stage(self, report: pytest.TestReport) -> Generator[None, dict[str, Any], dict[str, Any]]:
        """Add the record of a report, and our sections."""
        stage = yield
        record = record_of(report)
        if record is not None:
            titles = record.get("sections", [])
            stage["jumpstarter"] = dict(record)
            stage["sections"] = {title: text for title, text in report.sections if title in titles}
        return stage

    @pytest.hookimpl(optionalhook=True)
    def pytest_json_modifyreport(self, json_report: dict[str, Any]) -> None:
        """Give a test that ran again the outcome of its last attempt: that plugin keeps the first that is no pass."""
        tests = json_report.get("tests", [])
        for test in tests:
            if test["outcome"] == "rerun":
                outcomes = [test[phase]["outcome"] for phase in _PHASES if phase in test]
                test["outcome"] = next((each for each in outcomes if each != "passed"), "passed")
        if tests:
            counts = Counter(test["outcome"] for test in tests)
            others = ("collected", "deselected", "total")
            kept = {name: count for name, count in json_report["summary"].items() if name in others}
            json_report["summary"] = {**counts, **kept}

"""Failures of a run, those with an equal reason together."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from pytest_jumpstarter.report.outcomes import BAD, in_words, is_bad
from pytest_jumpstarter.report.run_data import RunData, TestData

# What differs between two runs into the same wall: addresses, UUIDs, times, durations, folders of pytest.
_CHANGING = re.compile(
    r"0x[0-9a-fA-F]+"
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|\b\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?\b"
    r"|\b\d+(?:\.\d+)? ?(?:ms|s|sec|seconds?|minutes?)\b"
    r"|/pytest-of-[^\s'\"]+"
)
_LONGEST = 2000  # characters of a reason that are compared


class Group(NamedTuple):
    """
    Tests that failed for an equal reason.

    Attributes:
        outcome: The outcome of all of them.
        reason: The reason of the first.
        tests: Their positions in the data.
        boards: How many of them ran on each exporter.
    """

    outcome: str
    reason: str
    tests: list[int]
    boards: Counter[str]


def groups(data: RunData) -> list[Group]:
    """Return the groups: failures of tests, then device errors, then the rest; the largest groups first."""
    found: dict[tuple[str, str], Group] = {}
    for number, test in enumerate(data["tests"]):
        if is_bad(test):
            key = (_kind(test), reason_key(test))
            group = found.setdefault(key, Group(test["outcome"], reason(test), [], Counter()))
            group.tests.append(number)
            group.boards.update({device["exporter"] for device in test["devices"]})
    return sorted(found.values(), key=lambda group: (_rank(group.outcome), -len(group.tests), group.tests[0]))


def reason(test: TestData) -> str:
    """Return why a test is bad."""
    return test["reason"] or in_words(test["outcome"])


def reason_key(test: TestData) -> str:
    """Return the reason of a test without what is different each time; equal keys are equal reasons."""
    text = reason(test)[:_LONGEST]
    for device in test["devices"]:
        for name in (device["exporter"], device["lease"]):
            text = text.replace(name, "BOARD") if name else text
    return _CHANGING.sub("N", text)


def _kind(test: TestData) -> str:
    """Return the outcome, but one for a failure and an error: a fixture may fail in setup and in teardown."""
    return "failed" if test["outcome"] == "error" else test["outcome"]


def _rank(outcome: str) -> int:
    return BAD.index(outcome) if outcome in BAD else 0

"""What the outcomes of tests mean for reports: which are failures, which stand for a test that ran again."""

from __future__ import annotations

from pytest_jumpstarter.report.run_data import TestData

FAILED = ("failed", "error", "device error", "rerun")
"""The outcomes of failures, as pytest and this plugin count them."""

AGAIN = ("rerun", "retried")
"""The outcomes of attempts that were followed by another one."""

BAD = ("failed", "error", "device error", "", *AGAIN)
"""The outcomes that people look for, the worst last; the empty one is that of a test that was interrupted."""

_WORDS = {"": "interrupted", "rerun": "failed, ran again", "retried": "failed, ran again"}


def is_bad(test: TestData) -> bool:
    """Return whether a test, or one attempt of it, did not do what it should."""
    return is_bad_outcome(test["outcome"])


def is_bad_outcome(outcome: str) -> bool:
    """Return whether an outcome is bad; another plugin may have its own, such as "subtests failed"."""
    return outcome in BAD or "fail" in outcome.replace("xfail", "") or "error" in outcome


def in_words(outcome: str) -> str:
    """Return an outcome as people read it."""
    return _WORDS.get(outcome, outcome)


def bad_phases(test: TestData) -> set[str]:
    """Return the phases in which a test failed: those whose traceback it has, or else the last one."""
    if not is_bad(test):
        return set()
    found = {name for name in test["phases"] if any(title.endswith(f"{name} failed") for title in test["sections"])}
    last = max(test["phases"], key=lambda name: test["phases"][name]["start"], default="")
    return found or ({"call"} & test["phases"].keys()) or {last} - {""}

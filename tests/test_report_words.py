"""What the report of a run says in words: its headline, and which failures have an equal reason."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_runs import made_up

from pytest_jumpstarter.report.failure_groups import groups
from pytest_jumpstarter.report.headline import headline
from pytest_jumpstarter.report.outcomes import bad_phases
from pytest_jumpstarter.report.run_data import RunData


def outcomes(*found: str, boards: int = 1, exit_code: int | None = None) -> RunData:
    """Return the data of a run of so many tests on each board, with these outcomes."""
    return made_up(len(found) * boards, boards, lambda number: found[number], exit_code)


@pytest.mark.parametrize(
    ("data", "words", "is_bad"),
    [
        (outcomes("passed", "passed"), "All 2 tests passed on bench-00.rack-0 in 40s.", False),
        (outcomes("passed", boards=3), "All 3 tests passed on 3 boards in 36s.", False),
        (outcomes("passed"), "The only test passed on bench-00.rack-0 in 34s.", False),
        (outcomes("skipped", "skipped"), "All 2 tests were skipped on bench-00.rack-0 in 40s.", False),
        (outcomes("passed", "skipped"), "1 of 2 tests passed, 1 skipped on bench-00.rack-0 in 40s.", False),
        (outcomes("passed", "failed", "error"), "2 of 3 tests failed on bench-00.rack-0 in 46s.", True),
        (outcomes("passed", "device error"), "1 of 2 tests had a device error on bench-00.rack-0 in 40s.", True),
        (
            outcomes("failed", "device error"),
            "1 of 2 tests failed and 1 had a device error, on bench-00.rack-0 in 40s.",
            True,
        ),
        (outcomes("rerun", "passed"), "The only test passed on bench-00.rack-0 in 40s.", False),
        (
            outcomes("passed", "", exit_code=143),
            "Ended by SIGTERM: 1 of 2 tests was interrupted on bench-00.rack-0 in 40s.",
            True,
        ),
        (
            outcomes("passed", exit_code=3),
            "The run failed (all is well), although the only test passed on bench-00.rack-0 in 34s.",
            True,
        ),
        (made_up(0, 0, exit_code=5), "No test ran.", True),
        (made_up(5000, 50), "200 of 5,000 tests failed on 50 boards in 11:07.", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headline(data: RunData, words: str, is_bad: bool) -> None:
    """One sentence tells how the run went, on which boards, and how long it took."""
    assert headline(data) == (words, is_bad)


def problem(kind: str, where: str = "", reason: str = "", text: str = "") -> dict[str, str]:
    """Return a problem that no test tells of."""
    return {"kind": kind, "where": where, "reason": reason, "text": text}


@pytest.mark.parametrize(
    ("data", "run", "words"),
    [
        (
            made_up(0, 0),
            {"exit_code": 2, "problems": [problem("collection error")] * 2},
            "2 files cannot be imported, and no test ran.",
        ),
        (
            outcomes("passed", "passed"),
            {"exit_code": 1, "problems": [problem("collection error")]},
            "1 file cannot be imported, although all 2 tests passed on bench-00.rack-0 in 40s.",
        ),
        (
            outcomes("failed", "", "passed"),
            {"exit_code": 143, "never_began": ["x"] * 1200},
            "Ended by SIGTERM: 1 of 3 tests failed, 1 was interrupted and 1,200 never began, "
            "on bench-00.rack-0 in 46s.",
        ),
        (
            outcomes("passed"),
            {"exit_code": 8, "problems": [problem("not released")]},
            "1 lease was not released, although the only test passed on bench-00.rack-0 in 34s.",
        ),
        (
            outcomes("passed"),
            {"exit_code": 0, "problems": [problem("hook failed")]},
            "The only test passed, 1 hook failed on bench-00.rack-0 in 34s.",
        ),
        (
            outcomes("failed"),
            {"exit_code": 3, "problems": [problem("internal error"), problem("a new kind")]},
            "1 of 1 test failed, 1 internal error and 1 problem of the kind a new kind, on bench-00.rack-0 in 34s.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_headline_with_problems(data: Any, run: dict[str, Any], words: str) -> None:
    """What no test tells of is in the headline as well."""
    found = headline(data | {"run": data["run"] | run})
    assert found == (words, run["exit_code"] != 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timeout after 30.1s", "timeout after 29.8s"),
        ("<Port at 0x7f12ab>", "<Port at 0x7f99cd>"),
        ("at 12:01:02.345", "at 13:59:59.001"),
        ("no file /tmp/pytest-of-ann/pytest-3/x0", "no file /tmp/pytest-of-ann/pytest-4/x1"),
        ("lost bench-00.rack-0", "lost bench-01.rack-1"),
        ("lease pj-1-gw0-1 ended", "lease pj-1-gw1-1 ended"),
    ],
)
def test_reasons_that_differ_by_chance_are_equal(one: str, other: str) -> None:
    """Addresses, times, folders of pytest and the names of board and lease do not keep failures apart."""
    data = outcomes("failed", boards=2)
    data["tests"][0]["reason"], data["tests"][1]["reason"] = one, other
    [group] = groups(data)
    assert (group.reason, group.tests, len(group.boards)) == (one, [0, 1], 2)


@pytest.mark.parametrize(
    ("one", "other"), [("assert 4 == 5", "assert 4 == 6"), ("timeout after 3s", "crash after 3s"), ("", "x")]
)
def test_other_reasons_are_not_equal(one: str, other: str) -> None:
    """Plain numbers and words make a difference."""
    data = outcomes("failed", boards=2)
    data["tests"][0]["reason"], data["tests"][1]["reason"] = one, other
    assert len(groups(data)) == 2


def test_failures_of_tests_come_before_device_errors() -> None:
    """The groups are in the order in which people want them: the product, then the lab, then what ran again."""
    data = outcomes("rerun", "device error", "device error", "", "failed", "passed")
    assert [group.outcome for group in groups(data)] == ["failed", "device error", "", "rerun"]


@pytest.mark.parametrize(
    ("sections", "phases"),
    [
        ({"setup failed": ""}, {"setup"}),
        ({"call failed": "", "teardown failed": ""}, {"call", "teardown"}),
        ({"teardown failed": ""}, {"teardown"}),
        ({}, {"call"}),
    ],
)
def test_only_phases_that_failed_are_bad(sections: dict[str, str], phases: set[str]) -> None:
    """A teardown that passed is not bad because its test failed."""
    test: Any = outcomes("failed")["tests"][0]
    assert bad_phases(test | {"sections": sections}) == phases

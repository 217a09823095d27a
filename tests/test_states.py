"""Board states: each rule on the virtual board, in one run of a suite with a module for each rule."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from states_suite import CONFTEST, HEAD, MODULES

from pytest_jumpstarter.history.file import HistoryFile
from pytest_jumpstarter.lab import Lab

HAS_SUBTESTS = hasattr(pytest, "Subtests")


class Run:
    """
    A run of the suite.

    Attributes:
        output: What it printed.
        notes: What the suite noted, in order.
        data: The report as JSON.
    """

    def __init__(self, folder: Path, args: Sequence[str]) -> None:
        command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *args]
        command += ["--jmp-report=run.json", "--junitxml=junit.xml", "--jmp-history=history.sqlite", "-rA"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        self.output = done.stdout + done.stderr
        self.notes = (folder / "notes").read_text().splitlines()
        self.data: Any = json.loads((folder / "run.json").read_text())
        self.folder = folder

    def during(self, *names: str) -> list[str]:
        """Return what was noted from the start of the first of these tests to that of the next test after the last."""
        begin, end = (self.notes.index(f"[{name}]") for name in (names[0], names[-1]))
        rest = self.notes[end + 1 :]
        length = next((number for number, each in enumerate(rest) if each.startswith("[")), len(rest))
        # what a test needs is set up after its autouse fixture; what ends before it belongs to the test before
        return self.notes[begin + 1 : end + 1 + length]

    def transitions(self, *names: str) -> list[str]:
        """Return the transitions between the start of these tests and that of the next one."""
        return [note for note in self.during(*names) if " -> " in note]

    def outcome(self, name: str) -> str:
        """Return the outcome of a test."""
        return str(next(test["outcome"] for test in self.data["tests"] if test["id"].endswith(f"::{name}")))

    def reason(self, name: str) -> str:
        """Return why a test failed."""
        return str(next(test["reason"] for test in self.data["tests"] if test["id"].endswith(f"::{name}")))


TESTS_WITH_VERSIONS = [
    ("test_old_kernel", "6.1"),
    ("test_new_app", "6.6"),
    ("test_new_kernel", "6.6"),
    ("test_same_app", "6.6"),
]
ANEW = ["dut: None -> off", "dut: off -> login", "dut: login -> shell"]


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run of all modules."""
    folder = tmp_path_factory.mktemp("states")
    (folder / "pytest.ini").write_text(f"[pytest]\njmp_client = {lab.client_config}\njmp_order = off\n")
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in MODULES.items():
        if HAS_SUBTESTS or "subtests" not in name:
            (folder / f"{name}.py").write_text(HEAD + textwrap.dedent(text))
    return Run(folder, [])


def test_a_state_is_a_fixture_with_a_value(run: Run) -> None:
    """A test gets what the transition yields; transitions get fixtures; a test that stands on it too makes none."""
    assert run.transitions("test_value") == ANEW
    assert run.during("test_again") == []
    assert run.outcome("test_value") == run.outcome("test_again") == "passed"


def test_what_is_on_the_way_ends_before_the_next_step(run: Run) -> None:
    """What follows the `yield` of a state on the way runs before the next transition."""
    found = run.during("test_value")
    assert found[:5] == [ANEW[0], "dut: off ends", ANEW[1], "dut: login ends", ANEW[2]]


def test_fixtures_over_a_state_end_before_it(run: Run) -> None:
    """A module fixture over a state ends before the state does, in the teardown of the last test that stands on it."""
    assert run.during("test_led") == ["led on", "led off", "dut: shell ends"]
    assert run.during("test_led_again") == ["dut: login -> shell", "led on", "led off"]
    assert run.outcome("test_left") == "passed"


@pytest.mark.parametrize(
    ("failing", "after"),
    [
        ("test_fails", "test_after_failure"),
        ("test_xfails", "test_after_xfail"),
        ("test_teardown_fails", "test_after_teardown"),
        ("test_setup_fails", "test_after_setup"),
        ("test_1_unit_fails", "test_2_after_unit"),
        ("test_fails_late", "test_after_failing_late"),
        pytest.param(
            "test_sub", "test_after_sub", marks=pytest.mark.skipif(not HAS_SUBTESTS, reason="pytest has no subtests")
        ),
    ],
)
def test_a_failure_spoils_the_board(run: Run, failing: str, after: str) -> None:
    """After a failure, in whatever phase and kind of test, the state ends, and the next one begins at a root."""
    assert "dut: shell ends" in run.during(failing)
    assert run.transitions(after) == ANEW
    assert run.outcome(after) == "passed"


def test_a_skip_does_not_spoil(run: Run) -> None:
    """A test that skips leaves the board as it is."""
    assert run.during("test_skips", "test_after_skip")[:1] == ["[test_after_skip]"]
    assert run.transitions("test_after_skip") == []


@pytest.mark.parametrize("after", ["test_after_mark", "test_after_saying", "test_after_forgetting", "test_anew"])
def test_a_test_that_spoils(run: Run, after: str) -> None:
    """The mark, `spoil` and `forget` do for a test that passes what a failure does; `keep` lasts for one test."""
    assert run.transitions(after) == ANEW


@pytest.mark.parametrize("after", ["test_after_keeping", "test_after_kept"])
def test_a_test_that_keeps(run: Run, after: str) -> None:
    """With `keep` or the mark not even a failure spoils the board."""
    assert run.transitions(after) == []
    assert run.outcome(after) == "passed"


def test_a_test_with_the_device_alone(run: Run) -> None:
    """It ends what stands and leaves the board in no known state, unless its mark says that it only looks."""
    assert run.transitions("test_looks", "test_still_stands") == []
    assert run.during("test_still_stands")[-1] == "dut: shell ends"
    assert run.transitions("test_reached_anew") == ANEW
    assert "unknown (after test_uses) -> off" in run.output


def test_states_asked_for_by_name(run: Run) -> None:
    """A state that is asked for in the middle: what stands from an earlier test is left, and what depends on it."""
    assert run.transitions("test_over") == ["dut: login -> shell"]
    assert run.during("test_over")[-3:] == ["over ends", "by_name ends", "dut: shell ends"]
    assert run.transitions("test_asks") == ["dut: login -> shell"]
    assert [run.outcome(name) for name in ("test_leaves", "test_asks", "test_not_kept")] == ["passed"] * 3


def test_another_state_by_name_is_refused(run: Run) -> None:
    """A test that stands on a state cannot ask for another one; the error is not kept for later tests."""
    assert run.outcome("test_refused") == "passed"
    assert run.outcome("test_not_kept") == "passed"


def test_two_states_of_one_device(run: Run) -> None:
    """A test that requests two states of a device is a configuration error that names both."""
    assert run.outcome("test_two") == "error"
    assert run.reason("test_two").startswith(
        "ConfigError: test_two requests 'login' and 'shell', which are states of 'dut'"
    )
    assert next(each for each in run.data["tests"] if each["id"].endswith("::test_two"))["device_error"] is None


def test_a_narrower_scope_means_anew(run: Run) -> None:
    """A state of function scope, or with another parameter, is reached anew from a root each time."""
    assert run.during("test_fresh").count("fresh boot") == run.during("test_fresh_again").count("fresh boot") == 1
    assert run.transitions("test_fresh_again") == ["dut: fresh -> off"]
    assert run.transitions("test_painted[red]")[-1:] == ["dut: fresh -> off"]
    assert run.transitions("test_painted[blue]") == ["dut: painted -> off"]
    assert "painted blue" in run.during("test_painted[blue]")


def test_errors_while_a_state_ends(run: Run) -> None:
    """An error while a state ends belongs to the test before; that of a console after a failure is only a section."""
    assert run.outcome("test_first") == "error"
    assert "the teardown over a state" in run.reason("test_first")
    assert run.outcome("test_kills") == "failed"
    assert [run.outcome(name) for name in ("test_next", "test_innocent", "test_end")] == ["passed"] * 3
    assert "while it ended after a failure: console console of dut (board-1) waited 0.1s" in run.output


def test_a_test_that_walks(run: Run) -> None:
    """`reach` brings a board into one state after the other; what follows the last `yield` runs at the test's end."""
    found = run.during("test_walks")
    assert [each for each in found if " -> " in each][-4:] == [
        *("dut: off -> login", "dut: login -> shell", "dut: shell -> off", "dut: off -> login")
    ]
    assert found[-2:] == ["walked", "dut: login ends"]
    assert [run.outcome(name) for name in ("test_walks", "test_typo", "test_stands")] == ["passed"] * 3


def test_no_state_ends_for_a_test_that_is_skipped(run: Run) -> None:
    """A test that a mark skips changes no state."""
    assert run.transitions("test_on_shell", "test_on_shell_still")[3:] == []


def test_boards_of_several_roles(run: Run) -> None:
    """`of` gives the same state to another role; each board has a state of its own, and only its own failures."""
    assert [each.partition(":")[0] for each in run.transitions("test_both")].count("gateway") == 3
    assert run.transitions("test_other") == []


def test_an_ordinary_fixture_may_override_a_state(run: Run) -> None:
    """An override that uses the state stands on it."""
    assert "shell, overridden" in run.during("test_overridden")
    assert run.outcome("test_overridden") == "passed"


def test_a_state_that_is_not_reached(run: Run) -> None:
    """A transition is tried as often as it may be; then later tests that need it fail at once, in one line."""
    assert run.during("test_beyond").count("wall") == 3
    assert run.reason("test_beyond").startswith(
        "StateNotReached: dut (board-1) did not reach 'beyond': it failed on the way, at 'wall' "
        "(from off, 3 of 3 tries): TIMEOUT: console console of dut (board-1) waited"
    )
    assert "wall" not in run.during("test_wall")
    reason = run.reason("test_wall")
    assert re.fullmatch(
        r"StateNotReached: dut \(board-1\) did not reach 'wall' at [\d:]{8}, in test_beyond, "
        "and is not asked again: .*",
        reason,
    )
    text = next(each for each in run.data["tests"] if each["id"].endswith("::test_wall"))["sections"]["setup failed"]
    assert text.splitlines()[1].strip("- ") == "device of the test"
    assert (run.outcome("test_beyond"), run.outcome("test_wall")) == ("error", "error")


def test_a_transition_that_calls_fail(run: Run) -> None:
    """`pytest.fail` in a transition is an error as any other; a secret at the end of what is kept of it is masked."""
    assert run.during("test_calls_fail").count("refused") == 2
    assert run.reason("test_calls_fail").startswith(
        "StateNotReached: dut (board-1) did not reach 'refused' (from off, 2 of 2 tries): Failed: no prompt ..."
    )
    assert "refused" not in run.during("test_calls_fail_again")
    error = next(each for each in run.data["states"] if each["state"] == "refused")["error"]
    assert "eyJ" not in error + run.reason("test_calls_fail_again")


def test_a_time_limit_of_the_test_ends_a_transition(run: Run) -> None:
    """What pytest-timeout raises in a transition passes: there is no time left for another try."""
    assert run.during("test_out_of_time").count("slow") == 1
    assert run.reason("test_out_of_time").startswith("Failed: Timeout (>0.5s) from pytest-timeout")
    assert next(each for each in run.data["states"] if each["state"] == "slow")["error"].startswith("Failed: Timeout")


def test_fail_while_a_walk_ends(run: Run) -> None:
    """`pytest.fail` after the `yield` of a state that a test walked to is the error of this test alone."""
    assert run.outcome("test_walk_ends_badly") == "error"
    assert run.reason("test_walk_ends_badly") == "Failed: it ends badly"
    assert run.outcome("test_after_walk") == "passed"


def test_each_error_of_a_teardown_is_shown(run: Run) -> None:
    """If the teardown of a test fails, and then that of its board state, both errors are in its report."""
    assert run.outcome("test_fails_twice") == "error"
    text = next(each for each in run.data["tests"] if each["id"].endswith("::test_fails_twice"))["sections"]
    assert "the error of one teardown" in str(text)
    assert "then: RuntimeError: the error of another teardown" in str(text)
    assert run.outcome("test_after_failing_twice") == "passed"


def test_a_transition_that_does_not_yield(run: Run) -> None:
    """A generator that ends before its `yield` is an error that says so."""
    assert "RuntimeError: board_state 'silent': the transition did not yield" in run.reason("test_silent")


def test_another_path(run: Run) -> None:
    """A state to which another path leads is reached by that; `forget` makes what failed be tried again."""
    assert run.outcome("test_around") == "passed"
    assert "around" in run.during("test_around")
    assert run.during("test_tried_again").count("wall") == 3


def test_a_state_that_was_reached_with_another_fixture(run: Run) -> None:
    """A path begins where the board is only if the fixtures of the transitions behind it are still the same."""
    assert [run.outcome(f"{name}[{version}]") for name, version in TESTS_WITH_VERSIONS] == 4 * ["passed"]
    noted = [note for note in run.during("test_new_app[6.6]") if note in ("kernel 6.1", "kernel 6.6", "app")]
    assert noted == ["kernel 6.6", "app"]
    assert "app" in run.during("test_same_app[6.6]")
    assert "kernel 6.6" not in run.during("test_same_app[6.6]")
    assert "unknown (kernel was reached with another 'version') -> off" in run.output


def test_what_was_not_reached_is_tried_with_another_fixture(run: Run) -> None:
    """That a state was not reached with one parameter says nothing about another."""
    outcomes = {"test_picky[6.1]": "error", "test_picky[6.6]": "passed"}
    outcomes |= {"test_choosy[red]": "error", "test_choosy[blue]": "passed"}
    assert {name: run.outcome(name) for name in outcomes} == outcomes


def test_a_flash(run: Run) -> None:
    """A flash spoils the state of the board, except in the transition that leads to a state."""
    assert run.transitions("test_after_flash") == ANEW
    assert "flashes it) -> off" in run.output
    assert run.during("test_updated", "test_updated_still").count("updated") == 1
    assert [run.outcome(name) for name in ("test_flashes", "test_after_flash", "test_updated_still")] == ["passed"] * 3


def test_the_reports_tell_states(run: Run) -> None:
    """JSON, JUnit and the history have the state of each test; JSON has the transitions, with their times."""
    test = next(each for each in run.data["tests"] if each["id"].endswith("::test_value"))
    assert [device["state"] for device in test["devices"]] == ["shell"]
    first = run.data["states"][:3]
    assert [(each["came_from"], each["state"], each["role"]) for each in first] == [
        *(("", "off", "dut"), ("off", "login", "dut"), ("login", "shell", "dut"))
    ]
    keys = {lease["key"] for lease in run.data["leases"]}
    for each in run.data["states"]:
        assert each["lease"] in keys
        assert each["error"] or each["began"] <= each["reached"] <= (each["left"] or each["reached"])
    wall = next(each for each in run.data["states"] if each["state"] == "wall")
    assert wall["reached"] is None
    assert wall["error"].startswith("TIMEOUT: console console of dut (board-1) waited")
    junit = ET.parse(run.folder / "junit.xml")
    found = junit.find(".//testcase[@name='test_value']/properties/property[@name='jumpstarter.dut.state']")
    assert found is not None
    assert found.get("value") == "shell"
    [kept] = HistoryFile(run.folder / "history.sqlite").full_runs()
    states = {result.test.rpartition("::")[2]: result.state for result in kept.results if result.role == "dut"}
    assert (states["test_value"], states["test_off"], states["test_uses"]) == ("shell", "off", "")


def test_a_line_for_each_transition(run: Run) -> None:
    """Each transition is told past capture: the board, where from, where to, how long."""
    lines = re.findall(r"^jumpstarter: (dut \(board-1\): .*)$", run.output, re.MULTILINE)
    assert re.fullmatch(r"dut \(board-1\): unknown -> off \d+\.\ds", lines[0])
    assert re.fullmatch(r"dut \(board-1\): off -> login \d+\.\ds", lines[1])
    assert any(re.fullmatch(r"dut \(board-1\): unknown \(test_fails failed\) -> off \d+\.\ds", line) for line in lines)
    assert any(line.startswith("dut (board-1): wall not reached, next try from a root: TIMEOUT: ") for line in lines)

"""Other plugins that run tests again, and `--jmp-retries`, alone and together, after the loss of a board."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

import pytest

from .inner import DEVICE_ERROR, EXIT_CODE, Bench, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerunning:
    """
    What runs tests again.

    Attributes:
        args: For pytest.
        plugins: The entry points of the plugins.
        again: The word of the attempts after which a test ran again on a device error, in the last line.
        is_neighbour: Whether it is installed beside the neighbours only.
    """

    args: tuple[str, ...]
    plugins: tuple[str, ...] = ("rerunfailures",)
    again: str = "rerun"
    is_neighbour: bool = False


_RETRY = ("pytest-retry",)
RERUNNING = {
    "rerunfailures": Rerunning(args=("--reruns=1",)),
    "pytest-retry": Rerunning(args=("--retries=1",), plugins=_RETRY, again="retried", is_neighbour=True),
    "ours": Rerunning(args=("--jmp-retries=1",), plugins=()),
    "rerunfailures and ours": Rerunning(args=("--reruns=1", "--jmp-retries=1")),
    "pytest-retry and ours": Rerunning(args=("--retries=1", "--jmp-retries=1"), plugins=_RETRY, is_neighbour=True),
    "rerunfailures, xdist": Rerunning(args=("--reruns=1", "-n1"), plugins=("rerunfailures", "xdist")),
}
OTHERS = ("rerunfailures", "pytest-retry")
BESIDE_OURS = ("rerunfailures and ours", "pytest-retry and ours")

HEAD = """
import contextlib
import pytest
from harm import lose_in_a_call, lose_once, lose_to_somebody

@pytest.fixture(scope="session")
def booted(dut):
    dut.power.on()
    return dut

seen = []
"""
SUITES = {
    "two": """
def test_good(dut): dut.power.on()
def test_lost(dut): lose_once(dut)
""",
    "three": """
def test_lost(booted): lose_once(booted)
def test_good(booted): booted.power.on()
def test_lost_last(booted): lose_once(booted)
""",
    "three by lookups": """
def test_lost(request): lose_once(request.getfixturevalue("dut"))
def test_good(request): request.getfixturevalue("dut").power.on()
def test_lost_last(request): lose_once(request.getfixturevalue("booted"))
""",
}
LOST_ONCE = [
    *product(RERUNNING, ["two"]),
    *product([*OTHERS, *BESIDE_OURS], ["three"]),
    *product(OTHERS, ["three by lookups"]),
]


def run(bench: Bench, request: pytest.FixtureRequest, name: str, suite: str, *args: str, patience: float = 10) -> Seen:
    """Run a suite beside what runs tests again."""
    rerunning = RERUNNING[name]
    python = request.getfixturevalue("neighbours") if rerunning.is_neighbour else sys.executable
    files = {"test_it.py": HEAD + suite}
    seen = bench.run(files, *rerunning.args, *args, python=python, plugins=rerunning.plugins, patience=patience)
    for word in ("RuntimeError", "KeyError", "INTERNALERROR"):
        assert word not in seen.output, seen.output
    return seen


def counts(seen: Seen) -> dict[str, int]:
    """Return what the last line counts, but for warnings."""
    return {word: count for word, count in seen.counts.items() if not word.startswith("warning")}


@pytest.mark.parametrize(("name", "suite"), LOST_ONCE, ids=str)
def test_lost_once(bench: Bench, request: pytest.FixtureRequest, name: str, suite: str) -> None:
    """A test that lost its board runs again with a board, wherever it stands; nothing remains of the loss."""
    seen = run(bench, request, name, SUITES[suite])
    losses = SUITES[suite].count("lose_once")
    tests = SUITES[suite].count("def test_")
    assert counts(seen) == {"passed": tests, RERUNNING[name].again: losses}, seen.last
    assert seen.code == pytest.ExitCode.OK
    assert seen.left == []


@pytest.mark.parametrize("name", [*OTHERS, "pytest-retry and ours"])
def test_no_board_for_the_rerun(bench: Bench, request: pytest.FixtureRequest, name: str) -> None:
    """Where no board is to be had for the next attempt, it ends in a device error, as do the tests after it."""
    suite = """
def test_good(dut): dut.power.on()
def test_lost(dut): lose_to_somebody(dut)
def test_later(dut): dut.power.on()
def test_without(): pass
"""
    seen = run(bench, request, name, suite, "--jmp-exporter=board-1", "--jmp-wait=1s", patience=0)
    found = counts(seen)
    assert (found["passed"], found[DEVICE_ERROR]) == (2, 2), seen.last
    assert found.keys() <= {"passed", DEVICE_ERROR, RERUNNING[name].again}, seen.last
    assert seen.code == EXIT_CODE


CROSSING = """
@pytest.fixture
def attempt(request):
    seen.append(request.node.name)
    return seen.count(request.node.name)

def test_lost_then_failed(dut, attempt):
    if attempt == 1:
        lose_in_a_call(dut)
    assert dut is None

def test_failed_then_lost(dut, attempt):
    assert attempt == 2
    lose_in_a_call(dut)

def test_failed_then_passed(dut, attempt):
    assert attempt == 2
    dut.power.on()

def test_lost_then_skipped(dut, attempt):
    if attempt == 1:
        lose_in_a_call(dut)
    pytest.skip("no need of it")

def test_lost_each_time(dut):
    lose_in_a_call(dut)
"""


@pytest.mark.parametrize("name", OTHERS)
def test_last_attempt_counts(bench: Bench, request: pytest.FixtureRequest, name: str) -> None:
    """The verdict is that of the last attempt: no loss of the first hides a failure, and no failure hides a loss."""
    seen = run(bench, request, name, CROSSING, "--jmp-scope=function")  # so that each test begins with a board
    expected = {"failed": 1, DEVICE_ERROR: 2, "passed": 1, "skipped": 1, RERUNNING[name].again: 5}
    assert counts(seen) == expected, seen.last
    assert seen.code == pytest.ExitCode.TESTS_FAILED
    for test in ("test_failed_then_lost", "test_lost_each_time"):
        assert f"DEVICE ERROR test_it.py::{test} (call)\n" in seen.output
        assert seen.outcome(f"test_it.py::{test}") == DEVICE_ERROR
    assert "FAILED test_it.py::test_lost_then_failed" in seen.output


@pytest.mark.parametrize("name", BESIDE_OURS)
def test_each_has_its_own(bench: Bench, request: pytest.FixtureRequest, name: str) -> None:
    """Beside `--jmp-retries` other plugins run again what the product failed, and ours what the lab failed."""
    suite = """
@pytest.fixture
def attempt(request):
    seen.append(request.node.name)
    return seen.count(request.node.name)

def test_failed_once(dut, attempt):
    assert attempt == 2

def test_lost_once(dut):
    lose_once(dut)

def test_failed_each_time(dut):
    assert dut is None

def test_lost_each_time(dut):
    lose_in_a_call(dut)
"""
    seen = run(bench, request, name, suite)
    reruns = {"rerun": 4} if name.startswith("rerunfailures") else {"rerun": 2, "retried": 2}
    assert counts(seen) == {"failed": 1, "passed": 2, DEVICE_ERROR: 1, **reruns}, seen.last
    assert seen.output.count("\nretried: test_lost_once on board-") == 1


def test_swallowed_loss_runs_again(bench: Bench, request: pytest.FixtureRequest) -> None:
    """A loss that a test said nothing of is a failure to pytest-rerunfailures, too."""
    suite = """
def test_lost(dut):
    with contextlib.suppress(Exception):
        lose_once(dut)
def test_good(dut): dut.power.on()
"""
    seen = run(bench, request, "rerunfailures", suite)
    assert counts(seen) == {"passed": 2, "rerun": 1}, seen.last
    assert seen.code == pytest.ExitCode.OK


def test_narrower_scope(bench: Bench, request: pytest.FixtureRequest) -> None:
    """The same holds where the board's fixture does not outlive the module."""
    seen = run(bench, request, "rerunfailures", SUITES["two"], "--jmp-scope=module")
    assert counts(seen) == {"passed": 2, "rerun": 1}, seen.last
    assert seen.code == pytest.ExitCode.OK

"""Verdicts over many runs: the cause that was planted is found, and nothing else is called a cause."""

from __future__ import annotations

import math
import os
import random
import runpy
from pathlib import Path

import pytest

from pytest_jumpstarter.history.board_health import health
from pytest_jumpstarter.history.exact import binomial, fisher
from pytest_jumpstarter.history.results import LeaseFacts, Past
from pytest_jumpstarter.history.verdicts import Kind, verdicts

BENCHMARK = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "history.py"))


def past(outcomes: str, boards: str = "abcd", *, seconds: float = 1.0) -> list[Past]:
    """
    Return results in order, one for each commit, on the boards in turn.

    Args:
        outcomes: A letter for each: `.` passed, `F` failed, `D` device error, `s` skipped, `S` passed slowly.
        boards: The boards.
        seconds: How long a test took; twice as long where it was slow.
    """
    words = {"F": "failed", "D": "device error", "s": "skipped"}
    return [
        Past(
            f"run-{number}",
            float(number),
            f"commit-{number}",
            boards[number % len(boards)],
            words.get(each, "passed"),
            seconds * (2 if each == "S" else 1) + number % 3 / 100,
        )
        for number, each in enumerate(outcomes)
    ]


def kinds(results: list[Past], *, tests: int = 1) -> list[Kind]:
    """Return the kinds of the verdicts about one test."""
    return [verdict.kind for verdict in verdicts({("test", "dut"): results}, tests=tests)]


def test_fisher() -> None:
    """The probability is that of the lady who tastes tea: 3 of 4 right is 17 in 70."""
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher(1, 4, 3, 4) == 1.0


@pytest.mark.parametrize(("hits", "trials", "rate"), [(3, 10, 0.1), (40, 500, 0.01), (1, 3, 0.05), (500, 500, 0.5)])
def test_binomial(hits: int, trials: int, rate: float) -> None:
    """The probability is the sum of its terms."""
    terms = [math.comb(trials, n) * rate**n * (1 - rate) ** (trials - n) for n in range(hits, trials + 1)]
    assert binomial(hits, trials, rate) == pytest.approx(math.fsum(terms))


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ("F..." * 8, "board"),
        ("." * 20 + "F" * 12, "product"),
        ("..F....F.F.....F..F....F..", "flaky"),
        ("S..." * 8, "slow board"),
        ("." * 20 + "S" * 20, "slow product"),
    ],
)
def test_cause_is_found(outcomes: str, kind: Kind) -> None:
    """Each cause is found where it is alone."""
    [verdict] = verdicts({("test", "dut"): past(outcomes)})
    assert verdict.kind == kind
    assert verdict.board == ("a" if kind in ("board", "slow board") else "")
    assert verdict.commit == ("commit-20" if kind in ("product", "slow product") else "")


@pytest.mark.parametrize(
    ("outcomes", "boards"),
    [
        ("." * 40, "abcd"),
        ("F..." * 2, "abcd"),  # too few runs
        ("F" * 40, "abcd"),  # nobody saw it pass
        ("." * 30 + "F" * 20, "a"),  # one board only: it may be the board or the product
        ("." * 30 + "F" * 20 + "." * 10, "abcd"),  # the product was mended
        ("." * 99 + "F" + "." * 150, "abcd"),  # once by chance
        ("D..." * 10, "abcd"),  # a device error is no failure of the product
        ("s..." * 10, "abcd"),
        ("", "abcd"),
    ],
)
def test_no_cause(outcomes: str, boards: str) -> None:
    """Without a clear cause there is no verdict."""
    assert kinds(past(outcomes, boards)) == []


def test_more_tests_need_more_runs() -> None:
    """What is clear in one test alone is not, if it is the clearest of a thousand."""
    results = past("F..." * 4)
    assert kinds(results) == ["board"]
    assert kinds(results, tests=1000) == []


def test_new_board_after_a_regression() -> None:
    """A board that joins when all boards fail already is not called bad."""
    results = past("." * 40 + "F" * 3) + [
        each._replace(run=f"late-{number}", start=100.0 + number, commit=f"late-{number}")
        for number, each in enumerate(past("F" * 30, "abcdeeee"))
    ]
    assert [verdict.kind for verdict in verdicts({("test", "dut"): results})] == ["product"]


def test_attempts_of_one_run_count_once() -> None:
    """Twelve attempts that fail in one run are one failure, since they may have one cause."""
    results = [each for each in past("....F..." * 2, "ab") for _ in range(12 if each.outcome == "failed" else 1)]
    assert kinds(results) == []


def test_commits_that_run_again() -> None:
    """A run of an old commit, such as to find the cause, counts where its commit belongs."""
    results = past("." * 20 + "F" * 12)
    results += [each._replace(run=f"again-{each.run}", start=each.start + 100) for each in results[10:20]]
    [verdict] = verdicts({("test", "dut"): results})
    assert (verdict.kind, verdict.commit) == ("product", "commit-20")


def test_nothing_planted() -> None:
    """In labs where all tests fail by chance alone, at most one of twenty analyses gives any verdict."""
    source = random.Random(1)
    labs = 60
    given = 0
    for _ in range(labs):
        tests = {
            (f"test-{test}", "dut"): [
                each._replace(
                    board=source.choice("abcdefgh"),
                    outcome="failed" if source.random() < 0.008 else "passed",
                    seconds=source.lognormvariate(0, 0.2),
                )
                for each in past("." * 120)
            ]
            for test in range(4)
        }
        given += bool(verdicts(tests))
    assert given <= labs * 0.05


def test_simulated_lab() -> None:
    """In simulated labs at most 5 % of the verdicts are wrong, and every cause is found; PYTEST_SEEDS sets how many."""
    found = BENCHMARK["Found"]()
    for seed in range(int(os.environ.get("PYTEST_SEEDS", "2"))):
        found.simulate(seed, commits=240, boards=8, every=80)
    assert found.wrong_share <= 0.05
    assert {"board", "product", "flaky", "slow board"} <= {kind for _, kind in found.right}


@pytest.mark.parametrize("share", [0.05, 0.06])
def test_benchmark_fails_if_too_many_are_wrong(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """The benchmark of 200 labs ends with exit code 1 if more than 5 % of the verdicts are wrong."""
    monkeypatch.setattr("sys.argv", ["history.py", "--seeds", "1"])
    monkeypatch.setattr(BENCHMARK["Found"], "simulate", lambda *_args, **_options: None)
    monkeypatch.setattr(BENCHMARK["Found"], "wrong_share", share)
    assert BENCHMARK["main"]() == (share > 0.05)


def test_health() -> None:
    """A board with more device errors than tolerated is unhealthy; a few by chance do not make it so."""
    leases = [LeaseFacts("good", "kind=dut", 1.0, 10.0, number == 7) for number in range(60)]
    leases += [
        LeaseFacts("bad", "kind=dut", 1.0, 30.0 if number < 5 else 10.0, number % 4 == 0) for number in range(40)
    ]
    leases += [LeaseFacts("new", "kind=dut", 1.0, None, True)] * 2
    bad, good, new = health(leases)
    assert (bad.exporter, bad.leases, bad.device_errors, bad.errors_per_100) == ("bad", 40, 10, 25.0)
    assert (bad.slow_boots, bad.ready_seconds) == (5, 10.0)
    assert [bad.is_unhealthy, good.is_unhealthy, new.is_unhealthy] == [True, False, False]
    assert new.ready_seconds is None

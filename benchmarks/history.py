"""
Measure the verdicts of the history in a simulated lab: 20 boards, 500 commits, planted causes.

    python benchmarks/history.py --seeds 200

Each commit is one run, on 4 of the 20 boards at random, as with four workers. 17 tests run once in each; 12 have no
cause but one failure in 500 by chance. The others: a bad board, a regression, a flaky test, a slow board, a commit that
made a test slower, and one test with a bad board, flakiness and a regression at once. Every 20 commits the history is
asked, as a run would; each verdict counts once, when it is first given. A verdict is right if a cause of this kind was
planted in this test: for boards the very board, for commits at most 5 commits away. More than 5 % wrong verdicts are
a failure.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import Counter, defaultdict

from pytest_jumpstarter.history.results import Past
from pytest_jumpstarter.history.verdicts import Kind, Verdict, verdicts

BOARDS, COMMITS, WORKERS, LOOK_EVERY = 20, 500, 4, 20
HEALTHY = [f"healthy_{number}" for number in range(12)]
PLANTED = ["bad_board", "regression", "flaky", "slow", "all"]
TESTS = [*HEALTHY, *PLANTED]
NOISE = 1 / 500
FLAKY = 0.1
MOST_WRONG = 0.05  # of all verdicts


class World:
    """One lab with its planted causes; `results` is what its runs learned."""

    def __init__(self, seed: int, *, commits: int = COMMITS, boards: int = BOARDS) -> None:
        self._random = random.Random(seed)
        self._boards = [f"board-{number}" for number in range(boards)]
        self._commits = commits
        self.bad, self.slow = self._random.sample(self._boards, 2)
        self.broken = self._random.randrange(commits // 5, commits * 4 // 5)
        self.slower = self._random.randrange(commits // 5, commits * 4 // 5)
        self.results: dict[tuple[str, str], list[Past]] = {(test, "dut"): [] for test in TESTS}

    def run(self, commit: int) -> None:
        """Add the run of one commit: each test once, on one of the boards that it leased."""
        leased = self._random.sample(self._boards, min(WORKERS, len(self._boards)))
        for test in TESTS:
            board = self._random.choice(leased)
            outcome = "failed" if self._random.random() < self._rate(test, board, commit) else "passed"
            seconds = self._random.lognormvariate(0.0, 0.15) * self._factor(test, board, commit)
            self.results[test, "dut"].append(Past(str(commit), float(commit), f"{commit:010}", board, outcome, seconds))

    def _rate(self, test: str, board: str, commit: int) -> float:
        """Return how often a test fails."""
        rates = {NOISE}
        if test in ("bad_board", "all") and board == self.bad:
            rates.add(0.7)
        if test in ("regression", "all") and commit >= self.broken:
            rates.add(1.0)
        if test in ("flaky", "all"):
            rates.add(FLAKY)
        return max(rates)

    def _factor(self, test: str, board: str, commit: int) -> float:
        slow = 1.6 if test in ("slow", "all") and board == self.slow else 1.0
        return slow * (1.4 if test in ("slow", "all") and commit >= self.slower else 1.0)

    def is_right(self, verdict: Verdict) -> bool:
        """Return whether the cause of a verdict was planted."""
        test = verdict.test
        match verdict.kind:
            case "board":
                return test in ("bad_board", "all") and verdict.board == self.bad
            case "product":
                return test in ("regression", "all") and abs(int(verdict.commit) - self.broken) <= 5
            case "flaky":
                return test in ("flaky", "all")
            case "slow board":
                return test in ("slow", "all") and verdict.board == self.slow
            case _:
                return test in ("slow", "all") and abs(int(verdict.commit) - self.slower) <= 5


class Found:
    """The verdicts of many simulated labs."""

    def __init__(self) -> None:
        self.right: Counter[tuple[str, Kind]] = Counter()
        self.wrong: list[tuple[int, int, Verdict]] = []
        self.runs: dict[tuple[str, Kind], list[int]] = defaultdict(list)
        self.runs_on_board: dict[tuple[str, Kind], list[int]] = defaultdict(list)

    def simulate(self, seed: int, *, commits: int = COMMITS, boards: int = BOARDS, every: int = LOOK_EVERY) -> None:
        """Run one lab, and note each verdict when it is first given."""
        world = World(seed, commits=commits, boards=boards)
        seen: set[tuple[str, ...]] = set()
        for commit in range(commits):
            world.run(commit)
            if (commit + 1) % every:
                continue
            for verdict in verdicts(world.results):
                key = (verdict.kind, verdict.test, verdict.board, verdict.commit)
                if key not in seen:
                    self._note(world, seed, commit, verdict, is_first=(verdict.kind, verdict.test) not in seen)
                    seen |= {key, (verdict.kind, verdict.test)}

    def _note(self, world: World, seed: int, commit: int, verdict: Verdict, *, is_first: bool) -> None:
        if not world.is_right(verdict):
            self.wrong.append((seed, commit, verdict))
            return
        key = (verdict.test, verdict.kind)
        self.right[key] += 1
        if not is_first:
            return
        start = {"product": world.broken, "slow product": world.slower}.get(verdict.kind, 0)
        self.runs[key].append(commit + 1 - start)
        past = world.results[verdict.test, "dut"]
        self.runs_on_board[key].append(sum(each.board == verdict.board for each in past))

    @property
    def wrong_share(self) -> float:
        """The share of wrong verdicts."""
        return len(self.wrong) / max(1, len(self.wrong) + sum(self.right.values()))


def main() -> int:
    """Simulate the labs, show the figures, and return the exit code: 1 if more verdicts are wrong than may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--every", type=int, default=LOOK_EVERY, help="ask the history every so many commits")
    options = parser.parse_args()
    found = Found()
    for seed in range(options.seeds):
        found.simulate(seed, every=options.every)
    print(f"{options.seeds} labs, {sum(found.right.values())} right and {len(found.wrong)} wrong verdicts")
    print(f"wrong: {found.wrong_share:.2%}; by kind: {dict(Counter(each.kind for *_, each in found.wrong))}")
    for seed, commit, verdict in found.wrong[:20]:
        print(f"  seed {seed}, commit {commit}: {verdict.test} {verdict.words}")
    for (test, kind), runs in sorted(found.runs.items()):
        on_board = statistics.median(found.runs_on_board[test, kind])
        print(
            f"{test:12} {kind:13} found in {len(runs)} of {options.seeds}; median {statistics.median(runs):g} runs"
            + (f", {on_board:g} on the board" if "board" in kind else "")
        )
    return 1 if found.wrong_share > MOST_WRONG else 0


if __name__ == "__main__":
    sys.exit(main())

"""
Verdicts over many runs: a test follows the board, follows the product, is flaky, or got slower.

docs/history.md states the rule. In short: each verdict is one exact test at a level of 5 %, divided by the number of
comparisons (Bonferroni). So an analysis that finds nothing real gives any verdict at all in at most 5 % of cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import Literal, NamedTuple

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.history.exact import binomial, fisher
from pytest_jumpstarter.history.results import DEVICE_ERROR, SKIPPED, Past

LEVEL = 0.05
FEWEST = 3
"""Failures, or results on a board, below which there is no verdict."""

TOLERATED = 0.01
"""A test that fails in one of a hundred runs is not called flaky."""

_QUESTIONS = 5
_STILL_FAILS = 0.9
_SLOWEST = 0.8
_SLOWER = 1.2
_SLOWER_SECONDS = 0.1
_SHORT_COMMIT = 10

Kind = Literal["board", "product", "flaky", "slow board", "slow product"]


class Verdict(NamedTuple):
    """
    What the history says about a test.

    Attributes:
        kind: What the failures, or the duration, follow.
        test: pytest's node id.
        role: The role of the device.
        board: The board that it follows; else empty.
        commit: The first commit that it follows; else empty.
        words: One line with the numbers, which continues "this test …".
        p: The probability of this or a clearer result by chance, times the number of comparisons.
    """

    kind: Kind
    test: str
    role: str
    board: str
    commit: str
    words: str
    p: float


class _Question(NamedTuple):
    """One test and role, and how many tests are asked about."""

    test: str
    role: str
    tests: int

    def verdict(
        self, kind: Kind, p: float, comparisons: int, words: str, *, board: str = "", commit: str = ""
    ) -> Verdict | None:
        """Return the verdict if `p`, times the number of all comparisons, is small enough."""
        corrected = p * comparisons * _QUESTIONS * self.tests
        return Verdict(kind, self.test, self.role, board, commit, words, corrected) if corrected <= LEVEL else None


def verdicts(pasts: Mapping[tuple[str, str], Sequence[Past]], *, tests: int | None = None) -> list[Verdict]:
    """
    Return the verdicts, the clearest first.

    Args:
        pasts: The results of each test and role, in any order.
        tests: From how many tests and roles these were chosen; None if they are all.
    """
    count = max(len(pasts), tests or 0)
    found = [
        verdict
        for (test, role), past in pasts.items()
        for verdict in _of_test(_Question(test, role, count), _in_order(past))
    ]
    return sorted(found, key=lambda verdict: (verdict.p, verdict.test, verdict.role, verdict.kind))


def _in_order(past: Sequence[Past]) -> list[Past]:
    """Return one result for each run and board, a failure before a pass; commits in the order of their first run."""
    ours = [each for each in past if each.outcome not in SKIPPED and each.outcome != DEVICE_ERROR and each.board]
    first: dict[str, float] = {}
    for each in ours:
        first[each.commit] = min(each.start, first.get(each.commit, each.start))
    worst: dict[tuple[str, str], Past] = {}
    for each in ours:
        known = worst.setdefault((each.run, each.board), each)
        if _failed(each) and not _failed(known):
            worst[each.run, each.board] = each
    return sorted(worst.values(), key=lambda each: (first[each.commit], each.commit, each.start, each.run, each.board))


def _failed(result: Past) -> bool:
    return result.outcome != "passed"


def _failures(results: Sequence[Past]) -> int:
    return sum(map(_failed, results))


def _boards(results: Sequence[Past]) -> set[str]:
    return {each.board for each in results}


def _of_test(question: _Question, results: list[Past]) -> Iterator[Verdict]:
    bad = list(_follows_board(question, results))
    yield from bad
    others = [each for each in results if each.board not in {verdict.board for verdict in bad}]
    product = _follows_product(question, others)
    if product is not None:
        yield product[0]
        others = others[: product[1]]
    if (flaky := _flaky(question, others)) is not None:
        yield flaky
    passed = [each for each in results if not _failed(each) and each.seconds is not None]
    slow = list(_slow_boards(question, passed))
    yield from slow
    passed = [each for each in passed if each.board not in {verdict.board for verdict in slow}]
    if (slower := _slower_product(question, passed)) is not None:
        yield slower


def _with_siblings(results: Sequence[Past]) -> Iterator[tuple[str, list[Past], list[Past]]]:
    """Yield each board with its results, and with those of its siblings in the same time."""
    for board in sorted(_boards(results)):
        positions = [position for position, each in enumerate(results) if each.board == board]
        span = results[max(positions[0] - 1, 0) : positions[-1] + 2]
        here = [each for each in span if each.board == board]
        yield board, here, [each for each in span if each.board != board]


def _follows_board(question: _Question, results: Sequence[Past]) -> Iterator[Verdict]:
    count = len(_boards(results))
    for board, here, there in _with_siblings(results):
        bad, other = _failures(here), _failures(there)
        if bad < FEWEST or len(there) < FEWEST or bad * len(there) < 2 * other * len(here):
            continue
        words = (
            f"follows the board {board}: failed {bad} of {len(here)} there, "
            f"{other} of {len(there)} on {_counted(_boards(there), 'sibling')}"
        )
        p = fisher(bad, len(here), other, len(there))
        if (verdict := question.verdict("board", p, count, words, board=board)) is not None:
            yield verdict


def _commit_starts(results: Sequence[Past]) -> list[int]:
    """Return the positions at which a commit that is known begins, without the first."""
    pairs = enumerate(pairwise(results), start=1)
    return [position for position, (one, two) in pairs if one.commit != two.commit and one.commit and two.commit]


def _follows_product(question: _Question, results: Sequence[Past]) -> tuple[Verdict, int] | None:
    """Return the verdict and the position from which all boards fail."""
    starts = _commit_starts(results)
    best: tuple[float, int] = (1.0, 0)
    for start in starts:
        before, since = results[:start], results[start:]
        bad = _failures(since)
        if _failed(results[start]) and bad >= FEWEST and bad >= _STILL_FAILS * len(since) and _is_on_all(since):
            best = min(best, (fisher(bad, len(since), _failures(before), len(before)), start))
    p, start = best
    if not start:
        return None
    before, since = results[:start], results[start:]
    commit = since[0].commit
    words = (
        f"follows the product: since {_short(commit)} failed {_failures(since)} of {len(since)} on "
        f"{_counted(_boards(since), 'board')}, before {_failures(before)} of {len(before)}"
    )
    verdict = question.verdict("product", p, len(starts), words, commit=commit)
    return (verdict, start) if verdict is not None else None


def _is_on_all(since: Sequence[Past]) -> bool:
    """Return whether several boards are in use, and each failed."""
    return len(_boards(since)) > 1 and _boards(since) == {each.board for each in since if _failed(each)}


def _flaky(question: _Question, results: Sequence[Past]) -> Verdict | None:
    ended = list(results)
    while ended and _failed(ended[-1]):  # they may be the start of something else
        ended.pop()
    failed = [each for each in ended if _failed(each)]
    streaks = sum(is_failed for is_failed, _ in groupby(ended, _failed))
    if len(failed) < FEWEST or streaks < FEWEST or FEWEST * streaks < len(failed) or len(_boards(failed)) < 2:
        return None
    by_board = {board: sum(each.board == board for each in failed) for board in sorted(_boards(failed))}
    worst = max(by_board, key=lambda board: by_board[board])
    rest = [each for each in ended if each.board != worst]
    p = max(binomial(_failures(each), len(each), TOLERATED) for each in (ended, rest))
    words = f"is flaky: failed {len(failed)} of {len(ended)}, on {len(by_board)} boards, {streaks} times between passes"
    return question.verdict("flaky", p, 1, words)


def _seconds(results: Sequence[Past]) -> list[float]:
    return [each.seconds or 0.0 for each in results]


def _is_slower(slow: float, fast: float) -> bool:
    return slow >= _SLOWER * fast and slow - fast >= _SLOWER_SECONDS


def _slow_boards(question: _Question, results: Sequence[Past]) -> Iterator[Verdict]:
    count = len(_boards(results))
    for board, here, there in _with_siblings(results):
        if min(len(here), len(there)) < FEWEST:
            continue
        slow, usual = median(_seconds(here)), median(_seconds(there))
        if not _is_slower(slow, usual):
            continue
        limit = sorted(_seconds([*here, *there]))[int(_SLOWEST * (len(here) + len(there)))]
        p = fisher(_at_least(limit, here), len(here), _at_least(limit, there), len(there))
        words = (
            f"is slower on {board}: {format_duration(slow)} in {len(here)} runs, "
            f"{format_duration(usual)} in {len(there)} on {_counted(_boards(there), 'sibling')}"
        )
        if (verdict := question.verdict("slow board", p, count, words, board=board)) is not None:
            yield verdict


def _at_least(limit: float, results: Sequence[Past]) -> int:
    return sum(seconds >= limit for seconds in _seconds(results))


def _slower_product(question: _Question, results: Sequence[Past]) -> Verdict | None:
    starts = _commit_starts(results)
    if not starts or len(results) < 2 * FEWEST:
        return None
    start = _clearest_change(_seconds(results), starts)
    before, since = results[:start], results[start:]
    fast, slow = median(_seconds(before)), median(_seconds(since))
    if min(len(before), len(since)) < FEWEST or len(_boards(since)) < 2 or not _is_slower(slow, fast):
        return None
    limit = median(_seconds(results))
    p = fisher(_at_least(limit, since), len(since), _at_least(limit, before), len(before))
    commit = since[0].commit
    words = (
        f"is slower since {_short(commit)}: {format_duration(slow)} in {len(since)} runs on "
        f"{_counted(_boards(since), 'board')}, before {format_duration(fast)} in {len(before)}"
    )
    return question.verdict("slow product", p, len(starts), words, commit=commit)


def _clearest_change(seconds: Sequence[float], starts: Sequence[int]) -> int:
    """Return the position at which two constant levels fit the ranks of the durations best (least squares)."""
    ranks = {position: rank for rank, position in enumerate(sorted(range(len(seconds)), key=seconds.__getitem__))}
    sums = [0]
    for position in range(len(seconds)):
        sums.append(sums[-1] + ranks[position])
    size, total = len(seconds), sums[-1]
    return max(starts, key=lambda start: sums[start] ** 2 / start + (total - sums[start]) ** 2 / (size - start))


def _short(commit: str) -> str:
    return commit[:_SHORT_COMMIT]


def _counted(things: set[str], word: str) -> str:
    return f"{len(things)} {word}{'s' if len(things) != 1 else ''}"

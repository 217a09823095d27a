"""The headline of a report: one sentence that says how the run went."""

from __future__ import annotations

import signal
from collections import Counter
from typing import NamedTuple

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.report.outcomes import AGAIN, in_words, is_bad, is_bad_outcome
from pytest_jumpstarter.report.run_data import RunData, RunFacts

NO_TEST = "No test ran"

# The kinds of problems, for one and for more.
_PROBLEMS = {
    "collection error": ("{} file cannot be imported", "{} files cannot be imported"),
    "internal error": ("{} internal error", "{} internal errors"),
    "usage error": ("{} usage error", "{} usage errors"),
    "worker crashed": ("{} worker crashed", "{} workers crashed"),
    "not released": ("{} lease was not released", "{} leases were not released"),
    "check failed": ("{} part of the check failed", "{} parts of the check failed"),
    "device held": ("{} device is held", "{} devices are held"),
    "hook failed": ("{} hook failed", "{} hooks failed"),
    "warning": ("{} warning is too many", "{} warnings are too many"),
    "not written": ("{} report could not be written", "{} reports could not be written"),
}


class Headline(NamedTuple):
    """The sentence, and whether the run went badly."""

    text: str
    is_bad: bool


def headline(data: RunData) -> Headline:
    """Return how the run went; a test that ran again counts once, with its last outcome."""
    run = data["run"]
    tests = [test for test in data["tests"] if test["outcome"] not in AGAIN]
    counts = Counter(test["outcome"] for test in tests)
    bad = sum(map(is_bad, tests))
    missing, problems = _missing(run), _problems(run)
    is_red = bool(bad or run["exit_code"] != 0)
    if run["exit_code"] is None and not bad:
        said = _listed([_good_tests(counts, len(tests)), *missing, *problems])
    elif bad:
        said = _listed([*_bad_tests(counts, len(tests)), *missing, *problems])
    else:
        said = _without_bad_tests(run, _good_tests(counts, len(tests)), [*problems, *missing])
    lasted = format_duration(run["stop"] - run["start"])
    when = f"{_where(data)} in {lasted}" if tests else ""
    return Headline(f"{_ending(run)}{said}{when}.", is_red)


def _without_bad_tests(run: RunFacts, good: str, problems: list[str]) -> str:
    """Return a sentence about a run in which no test failed; `problems` are what else was wrong."""
    if not problems and (not run["exit_code"] or good == NO_TEST):
        return good
    wrong = _listed(problems, end="") if problems else f"The run failed ({run['meaning']})"
    if not run["exit_code"]:
        return f"{good}, {wrong}"
    return f"{wrong}, {'and' if good == NO_TEST else 'although'} {good[0].lower()}{good[1:]}"


def _missing(run: RunFacts) -> list[str]:
    """Return how many tests never began."""
    number = len(run["never_began"])
    return [f"{number:,} never began"] if number else []


def _problems(run: RunFacts) -> list[str]:
    """Return the problems that no test tells of, by kind."""
    kinds = Counter(each["kind"] for each in run["problems"])
    return [_PROBLEMS.get(kind, _other(kind))[number > 1].format(f"{number:,}") for kind, number in kinds.items()]


def _bad_tests(counts: Counter[str], all_tests: int) -> list[str]:
    """Return the parts of a sentence about bad tests; failures of the product come first, then those of the lab."""
    lab, open_ = counts["device error"], counts[""]
    product = sum(count for outcome, count in counts.items() if is_bad_outcome(outcome)) - lab - open_
    verbs = (
        (product, "failed"),
        (lab, "had a device error" if lab == 1 else "had device errors"),
        (open_, "was interrupted" if open_ == 1 else "were interrupted"),
    )
    parts = [f"{count:,} {verb}" for count, verb in verbs if count]
    number, _, verb = parts[0].partition(" ")
    return [f"{number} of {_count(all_tests, 'test')} {verb}", *parts[1:]]


def _other(kind: str) -> tuple[str, str]:
    return f"{{}} problem of the kind {kind}", f"{{}} problems of the kind {kind}"


def _listed(parts: list[str], *, end: str = ",") -> str:
    """Return parts of a sentence as a list in words; `end` follows if it has more than one part."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}{end}" if len(parts) > 1 else parts[0]


def _good_tests(counts: Counter[str], all_tests: int) -> str:
    if not all_tests:
        return NO_TEST
    if len(counts) == 1:
        (outcome,) = counts
        which = f"All {all_tests:,} tests" if all_tests > 1 else "The only test"
        verb = {"passed": "passed", "skipped": "were skipped" if all_tests > 1 else "was skipped"}
        return f"{which} {verb.get(outcome, f'ended as {in_words(outcome)}')}"
    rest = ", ".join(f"{count:,} {in_words(outcome)}" for outcome, count in counts.most_common() if outcome != "passed")
    return f"{counts['passed']:,} of {_count(all_tests, 'test')} passed, {rest}"


def _where(data: RunData) -> str:
    boards = [each["exporter"] for each in data["exporters"] if each["exporter"] and each["tests"]]
    if len(boards) == 1:
        return f" on {boards[0]}"
    return f" on {len(boards):,} boards" if boards else ""


def _ending(run: RunFacts) -> str:
    """Return the signal that ended the run, if one did, and whether it has ended at all."""
    if run["exit_code"] is None:
        return "Not ended, or killed: "
    number = run["exit_code"] - 128
    return f"Ended by {signal.Signals(number).name}: " if number in set(signal.Signals) else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

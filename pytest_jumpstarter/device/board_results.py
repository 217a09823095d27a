"""
Results of tests that run on a board: of Unity, Zephyr's ztest and KTAP, as a console prints them.

A test that did not end, a plan that was not fulfilled and a summary that counts more failures are failures, too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

from pytest_jumpstarter.masking import first_characters

_TIME = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")  # of a message of the kernel
_LONGEST_MESSAGE = 2000
_OUTCOMES = {"PASS": "passed", "FAIL": "failed", "IGNORE": "skipped", "SKIP": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardResult:
    """
    The result of one test that ran on a board.

    Attributes:
        name: Its name; names of suites come before it, with dots between.
        outcome: `passed`, `failed` or `skipped`.
        message: Why it failed or was skipped, as far as the board says it.
        seconds: How long it took; None if the board does not say it.
    """

    name: str
    outcome: str
    message: str = ""
    seconds: float | None = None

    def __str__(self) -> str:
        message = f": {self.message}" if self.message else ""
        return f"{self.name} {self.outcome}{message}"


class BoardFailures(AssertionError):
    """
    Tests on the board failed, or did not end.

    Attributes:
        results: The results of all tests.
    """

    def __init__(self, message: str, results: list[BoardResult]) -> None:
        super().__init__(message, results)
        self.results = results

    def __str__(self) -> str:
        return str(self.args[0])


class Reader(ABC):
    """
    Base class of what reads one format, line by line.

    Attributes:
        results: Those of the tests that have ended.
        is_over: Whether the last line has come.
    """

    def __init__(self) -> None:
        self.results: list[BoardResult] = []
        self.is_over = False

    @abstractmethod
    def read(self, line: str) -> None:
        """Read one line, without its end and without escape codes."""

    def give_up(self) -> None:  # noqa: B027 - most formats have nothing to do
        """Add what is known, because the rest will not be read."""

    def add(self, name: str, outcome: str, message: str = "", seconds: float | None = None) -> None:
        """Add a result."""
        self.results.append(BoardResult(name=name, outcome=outcome, message=_shortened(message), seconds=seconds))

    def require(self, count: int, outcome: str, where: str) -> None:
        """Add a failure if a summary counts more results of one outcome than were seen."""
        seen = sum(result.outcome == outcome for result in self.results)
        if count > seen:
            self.add(where, "failed", f"it counts {count} tests that {outcome}, and {seen} were seen")


def _shortened(message: str) -> str:
    """Return a message as it is, or its start without secrets: half of one would not be found any more."""
    message = message.strip()
    return message if len(message) <= _LONGEST_MESSAGE else first_characters(message, _LONGEST_MESSAGE)


class UnityReader(Reader):
    """Reads the output of Unity: `FILE:LINE:TEST:PASS`, and its fixtures' `TEST(GROUP, TEST) PASS`."""

    _RESULT = re.compile(r":(\d+):([^:]*):(PASS|FAIL|IGNORE)(?:: ?(.*))?$")
    _FIXTURE = re.compile(r"(IGNORE_)?TEST\((\w+), *(\w+)\)")
    _SUMMARY = re.compile(r"\b(\d+) Tests (\d+) Failures (\d+) Ignored")

    def read(self, line: str) -> None:
        """See `Reader.read`."""
        fixture = self._FIXTURE.search(line)
        if found := self._RESULT.search(line):
            name = ".".join(fixture.group(2, 3)) if fixture and not found[2].strip() else found[2].strip()
            self.add(name, _OUTCOMES[found[3]], found[4] or "")
        elif fixture and (fixture[1] or line.rstrip().endswith("PASS")):
            self.add(".".join(fixture.group(2, 3)), "skipped" if fixture[1] else "passed")
        elif found := self._SUMMARY.search(line):
            total, failures, ignored = (int(number) for number in found.groups())
            self.require(failures, "failed", "summary of Unity")
            self.require(ignored, "skipped", "summary of Unity")
            self.require(total - failures - ignored, "passed", "summary of Unity")
            self.is_over = True


class ZtestReader(Reader):
    """Reads the output of Zephyr's ztest, up to `PROJECT EXECUTION …`."""

    _SUITE = re.compile(r"^Running TESTSUITE (\S+)")
    _START = re.compile(r"^ *START - (\S+)")
    _RESULT = re.compile(r"^ *(PASS|FAIL|SKIP) - (\S+) in ([\d.]+) seconds")
    _END = re.compile(r"PROJECT EXECUTION (SUCCESSFUL|FAILED)")

    def __init__(self) -> None:
        super().__init__()
        self._suite = ""
        self._running = ""
        self._said: list[str] = []

    def read(self, line: str) -> None:
        """See `Reader.read`."""
        if found := self._SUITE.match(line):
            if found[1] != self._suite:  # else the board was restarted, as tests of watchdogs do
                self._give_up("its suite ended before it did")
            self._suite = found[1]
        elif found := self._START.match(line):
            if found[1] != self._running:
                self._give_up("the next test began before it ended")
            self._running, self._said = found[1], []
        elif found := self._RESULT.match(line):
            outcome = _OUTCOMES[found[1]]
            message = "" if outcome == "passed" else "\n".join(self._said)
            self.add(self._name(found[2]), outcome, message, float(found[3]))
            self._running, self._said = "", []
        elif found := self._END.search(line):
            self._give_up("the run ended before it did")
            if found[1] == "FAILED" and all(result.outcome != "failed" for result in self.results):
                self.add("PROJECT EXECUTION", "failed", line)
            self.is_over = True
        elif self._running and line.strip():
            self._said.append(line.strip())

    def _name(self, name: str) -> str:
        return f"{self._suite}.{name}" if self._suite else name

    def _give_up(self, why: str) -> None:
        if self._running:
            self.add(self._name(self._running), "failed", "\n".join([why, *self._said]))
        self._running = ""


@dataclass(slots=True)
class _Level:
    """One level of KTAP: its plan, how many results it had, and the results of its tests."""

    plan: int | None = None
    count: int = 0
    name: str = ""
    results: list[BoardResult] = field(default_factory=list)


class KtapReader(Reader):
    """Reads KTAP and TAP, with subtests, also as messages of the kernel; over when the plan is fulfilled."""

    _HEAD = re.compile(r"^( *)K?TAP version \d+")
    _PLAN = re.compile(r"^( *)1\.\.(\d+)(?: *# *SKIP *(.*))?", re.IGNORECASE)
    _RESULT = re.compile(
        r"^( *)(not )?ok\b *\d* *(?:- *)?(.*?) *(?:(?<!\\)# *(SKIP|TODO|XFAIL|TIMEOUT|ERROR)\b:? *(.*))?$",
        re.IGNORECASE,
    )
    _SUBTEST = re.compile(r"^( *)# Subtest: *(.*)")
    _NOTE = re.compile(r"^ *# ?(.*)")
    _COUNTS = re.compile(r"^(?:\S+: )?(?:pass|Totals?):")
    _BAIL = re.compile(r"^ *Bail out!? *(.*)")

    def __init__(self) -> None:
        super().__init__()
        self._levels: dict[int, _Level] = {}
        self._notes: list[str] = []

    def read(self, line: str) -> None:
        """See `Reader.read`."""
        line = _TIME.sub("", line)
        if found := self._PLAN.match(line):
            self._level(found).plan = int(found[2])
            if found[2] == "0":
                self._level(found).results.append(BoardResult(name="plan", outcome="skipped", message=found[3] or ""))
        elif found := self._BAIL.match(line):
            self.give_up()
            self.add("Bail out!", "failed", found[1])
            self.is_over = True
        elif found := self._RESULT.match(line):
            self._end_test(found)
        elif (found := self._SUBTEST.match(line)) or self._HEAD.match(line):
            self._notes = []
        elif (found := self._NOTE.match(line)) and not self._COUNTS.match(found[1]):
            self._notes.append(found[1])
        top = self._levels.get(0)
        if top is not None and top.plan is not None and top.count >= top.plan and not self.is_over:
            self.results += top.results
            self.is_over = True

    def give_up(self) -> None:
        """See `Reader.give_up`."""
        self.results += [*self._level_at(0).results, *self._close(1)]
        self._levels.clear()

    def _level(self, found: re.Match[str]) -> _Level:
        return self._level_at(len(found[1]))

    def _level_at(self, depth: int) -> _Level:
        return self._levels.setdefault(depth, _Level())

    def _end_test(self, found: re.Match[str]) -> None:
        level, (_, is_not, name, directive, reason) = self._level(found), found.groups()
        level.count += 1
        name = name or f"test {level.count}"
        word = (directive or "").upper()
        outcome = "skipped" if word == "SKIP" else "failed" if is_not and word not in ("TODO", "XFAIL") else "passed"
        message = "\n".join(filter(None, [reason, *(self._notes if outcome == "failed" else ())]))
        self._notes = []
        inner = self._close(len(found[1]) + 1)
        level.results += (replace(result, name=f"{name}.{result.name}") for result in inner)
        if not inner or (outcome == "failed" and all(result.outcome != "failed" for result in inner)):
            result = BoardResult(name=name, outcome=outcome, message=_shortened(message))
            level.results.append(result)

    def _close(self, depth: int) -> list[BoardResult]:
        """Return the results of all levels from a depth on, and forget these."""
        found: list[BoardResult] = []
        for each in sorted(each for each in self._levels if each >= depth):
            level = self._levels.pop(each)
            found += level.results
            if level.plan is not None and level.count < level.plan:
                text = f"{level.count} of {level.plan} tests ended"
                found.append(BoardResult(name="plan", outcome="failed", message=text))
        return found


READERS: dict[str, type[Reader]] = {"unity": UnityReader, "ztest": ZtestReader, "ktap": KtapReader}
"""The formats by their names."""

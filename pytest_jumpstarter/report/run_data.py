"""The types of the JSON file of `--jmp-report`; `run_schema.json` describes it for other programs."""

from __future__ import annotations

from typing import TypedDict

from pytest_jumpstarter.evidence.record import (
    DeviceErrorFacts,
    DeviceFacts,
    Kept,
    LeaseTimes,
    Metric,
    StateTimes,
    TransferFacts,
)


class Phase(TypedDict):
    """The start and end of a phase of a test, in Unix time."""

    start: float
    stop: float


class Property(TypedDict):
    """A property that a test recorded by pytest's `record_property`."""

    name: str
    value: str


class DeviceOfTest(DeviceFacts):
    """A device of a test. `hold_seconds`: how long it had been held when the test ended."""

    hold_seconds: float


class TestData(TypedDict):
    """
    One attempt of a test.

    `sections`: texts by title: all of failed tests, only consoles and exporter logs of others.
    """

    id: str
    worker: str
    attempt: int
    outcome: str
    reason: str
    phases: dict[str, Phase]
    devices: list[DeviceOfTest]
    device_error: DeviceErrorFacts | None
    transfers: list[TransferFacts]
    sections: dict[str, str]
    artifacts: Kept | None
    metrics: list[Metric]
    properties: list[Property]


class ExporterData(TypedDict):
    """What one exporter did in the run; `exporter` is empty for waits without success."""

    exporter: str
    labels: dict[str, str]
    tests: int
    device_errors: int
    queued_seconds: float
    held_seconds: float
    busy_seconds: float
    busy_percent: int


class Summary(TypedDict):
    """The run in numbers. `tests`: the number of tests by outcome."""

    tests: dict[str, int]
    device_errors: int
    queued_seconds: float
    held_seconds: float
    busy_seconds: float


class Problem(TypedDict):
    """
    A problem that is in no test's report.

    - `kind`: collection error, internal error, usage error, worker crashed, check failed, device held, not released,
      hook failed, not written (a report), or warning (if --max-warnings ended the run red).
    - `where`: a file, a worker or tests; empty if the text says it.
    - `reason`: one line. `text`: all lines.
    """

    kind: str
    where: str
    reason: str
    text: str


class EndData(TypedDict):
    """
    How the run ended.

    - `exit_code`: None while the run goes on. `meaning`: what it means. `ended_by`: what ended the run early;
      empty if it ran to its end.
    - `interrupted`: the ids of the tests that began and did not end. `never_began`: of those that were collected and
      did not begin.
    """

    exit_code: int | None
    meaning: str
    ended_by: str
    interrupted: list[str]
    never_began: list[str]
    problems: list[Problem]


class RunFacts(EndData):
    """The run itself. `versions`, `origin`: see `evidence.versions` and `ci`."""

    start: float
    stop: float
    versions: dict[str, str]
    origin: dict[str, str]


class VerdictData(TypedDict):
    """A verdict of the history: see `history.verdicts`. `has_failed`: whether the test failed in this run."""

    kind: str
    test: str
    role: str
    board: str
    commit: str
    words: str
    p: float
    has_failed: bool


class HealthData(TypedDict):
    """The health of a board: see `history.board_health`."""

    exporter: str
    leases: int
    device_errors: int
    errors_per_100: float
    ready_seconds: float | None
    slow_boots: int
    is_unhealthy: bool


class HistoryData(TypedDict):
    """What many runs say. `problems`: why the history, or a file of it, could not be read or written."""

    path: str
    verdicts: list[VerdictData]
    boards: list[HealthData]
    problems: list[str]


class RunData(TypedDict):
    """The whole file. `states`: only of suites with board states. `history`: only with `--jmp-history`."""

    format: str
    version: int
    run: RunFacts
    summary: Summary
    exporters: list[ExporterData]
    leases: list[LeaseTimes]
    states: list[StateTimes]
    tests: list[TestData]
    history: HistoryData | None

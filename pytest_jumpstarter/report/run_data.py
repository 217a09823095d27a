"""The types of the JSON file of `--jmp-report`; `run_schema.json` describes it for other programs."""

from __future__ import annotations

from typing import TypedDict

from pytest_jumpstarter.evidence.record import DeviceErrorFacts, DeviceFacts, Kept, LeaseTimes


class Phase(TypedDict):
    """The start and end of a phase of a test, in Unix time."""

    start: float
    stop: float


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
    devices: list[DeviceFacts]
    device_error: DeviceErrorFacts | None
    sections: dict[str, str]
    artifacts: Kept | None


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


class Run(TypedDict):
    """The run itself. `versions`, `origin`: see `evidence.versions` and `ci`."""

    start: float
    stop: float
    exit_code: int
    versions: dict[str, str]
    origin: dict[str, str]


class RunData(TypedDict):
    """The whole file."""

    format: str
    version: int
    run: Run
    summary: Summary
    exporters: list[ExporterData]
    leases: list[LeaseTimes]
    tests: list[TestData]

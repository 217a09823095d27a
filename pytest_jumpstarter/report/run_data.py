"""The JSON file of `--jmp-report`, as types; `run_schema.json` describes the same for other programs."""

from __future__ import annotations

from typing import TypedDict

from pytest_jumpstarter.evidence.record import DeviceErrorFacts, DeviceFacts, Kept, LeaseTimes


class Phase(TypedDict):
    """One phase of a test: Unix times."""

    start: float
    stop: float


class TestData(TypedDict):
    """One attempt of a test. `sections`: texts by title, only of tests that went wrong."""

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
    """What one exporter did in the run; `exporter` is empty for waits that came to nothing."""

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

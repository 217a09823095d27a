"""The types of what the history keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SKIPPED = ("skipped", "xfailed", "xpassed", "")
"""Outcomes that are neither a pass nor a failure."""

DEVICE_ERROR = "device error"


class Result(NamedTuple):
    """
    One attempt of a test on the device of one role.

    Attributes:
        test: pytest's node id.
        role: The role of the device.
        exporter: The name of its exporter; empty if none was leased.
        labels: The exporter's labels, as `key=value` with commas.
        outcome: pytest's category, such as passed, failed, error, rerun or device error.
        reason: The start of the reason of a failure.
        device_error: The kind of a device error, such as LeaseLost; else empty.
        setup, call, teardown: Seconds of each phase, without the wait for a lease; None if it did not run.
        metrics: What the test measured, as JSON: the list in the file of `--jmp-report`; empty if nothing.
        state: The board state that the test stood on; empty if none.
    """

    test: str
    role: str
    exporter: str
    labels: str
    outcome: str
    reason: str
    device_error: str
    setup: float | None
    call: float | None
    teardown: float | None
    metrics: str = ""
    state: str = ""


class LeaseFacts(NamedTuple):
    """
    One lease.

    Attributes:
        exporter: The name of its exporter.
        labels: The exporter's labels.
        queued: Seconds from the request until the lease was Ready.
        ready: Seconds from then until the device was ready for its first test; None if it never was.
        has_error: Whether a device error happened on it.
    """

    exporter: str
    labels: str
    queued: float
    ready: float | None
    has_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """What one run learned; `uuid` identifies the run in every file."""

    uuid: str
    start: float
    stop: float
    commit: str
    ci: str
    build: str
    job: str
    url: str
    results: Sequence[Result]
    leases: Sequence[LeaseFacts]


class Past(NamedTuple):
    """One result of a test as the verdicts use it; `run` is the run's uuid."""

    run: str
    start: float
    commit: str
    board: str
    outcome: str
    seconds: float | None

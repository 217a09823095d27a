"""
`Record`: all that this plugin puts on a test's report, as `report.jumpstarter`.

It is plain data, so that it travels from a worker of pytest-xdist to the process that prints.
"""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from pytest_jumpstarter.devices_of import RECORD_FORMAT


class DeviceFacts(TypedDict):
    """
    A device of a test.

    - `wait_seconds`: how long its lease was waited for; 0 if it was held already.
    - `hold_seconds`: how long it was held when the report was made.
    """

    role: str
    exporter: str
    labels: dict[str, str] | None
    lease: str
    key: str
    wait_seconds: float
    hold_seconds: float


class LeaseTimes(TypedDict):
    """A lease as last heard of; all times are Unix time, None where it has not come to that."""

    key: str
    worker: str
    role: str
    lease: str
    exporter: str
    labels: dict[str, str] | None
    asked: float
    ready: float | None
    connected: float | None
    prepared: float | None
    released: float | None


class DeviceErrorFacts(TypedDict):
    """
    A device error.

    `test_said`: what the test itself ended with, where that was something else; empty if the test failed by this error.
    """

    reason: str
    kind: str
    exporter: str
    lease: str
    test_said: str


class Kept(TypedDict):
    """A folder with the evidence of one test."""

    root: str
    folder: str
    files: list[str]


class Record(TypedDict, total=False):
    """
    What is known of one phase of a test.

    - `attempt`: 1, and more where the test runs again.
    - `devices`: the devices of the test. `leases`: the leases of which there is news since the last report.
    - `device_error`: why this phase is a device error.
    - `retried`: lines for people, on the first report of a new attempt. `is_superseded`: the test runs again.
    - `held`: how to reach the device that is held after this failure, lines for people.
    - `no_device`: words for the device without which the test was skipped.
    - `sections`: titles of the report's sections that are ours.
    - `artifacts`: the folder of the test.
    """

    format: Required[Literal["pytest-jumpstarter-record"]]
    worker: Required[str]
    attempt: Required[int]
    devices: Required[list[DeviceFacts]]
    leases: list[LeaseTimes]
    device_error: DeviceErrorFacts
    retried: list[str]
    is_superseded: bool
    held: list[str]
    no_device: str
    sections: list[str]
    artifacts: Kept


def record_of(report: object) -> Record | None:
    """Return our record on a report; None if there is none, or something else under its name."""
    found = getattr(report, "jumpstarter", None)
    return found if isinstance(found, dict) and found.get("format") == RECORD_FORMAT else None  # type: ignore[return-value]  # by its format

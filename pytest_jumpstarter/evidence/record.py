"""
`Record`: everything that this plugin adds to a test's report, as `report.jumpstarter`.

It is plain data, so that a worker of pytest-xdist can send it to the process that prints.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from pytest_jumpstarter.roles import RECORD_FORMAT

OURS = ("format", "worker", "key", "outcome", "kind", "phase", "root", "folder")
"""The keys of values that this package or pytest has chosen; all other text is of others."""

MAPS = ("labels", "sections")
"""The keys of tables whose keys are of others, too."""


class DeviceFacts(TypedDict):
    """
    A device of a test.

    - `wait_seconds`: how long the test waited for its lease; 0 if the lease was in use before.
    - `hook_failures`: as in `LeaseTimes`, so far.
    - `state`: the board state that the test stands on; empty if none.
    """

    role: str
    exporter: str
    labels: dict[str, str] | None
    lease: str
    key: str
    wait_seconds: float
    hook_failures: list[str]
    state: str


class LeaseTimes(TypedDict):
    """
    The latest news of a lease; all times are Unix time, None if the event has not happened.

    - `is_adopted`: whether it existed before this run, which did not release it.
    - `hook_failures`: what the exporter says of its hooks that failed although the lease went on, or after it.
    """

    key: str
    worker: str
    role: str
    lease: str
    exporter: str
    labels: dict[str, str] | None
    is_adopted: bool
    asked: float
    ready: float | None
    connected: float | None
    prepared: float | None
    released: float | None
    hook_failures: list[str]


class StateTimes(TypedDict):
    """
    A transition of a board into a state, and how long the board was there; all times are Unix time.

    - `lease`: the key of the lease, as in `LeaseTimes`.
    - `came_from`: the state before; empty if nobody knew.
    - `reached`: None while it is under way, and if it failed; then `error` says why.
    - `left`: when the next transition began, or a test left the board in no known state; None if neither happened.
    """

    key: str
    worker: str
    role: str
    lease: str
    state: str
    came_from: str
    began: float
    reached: float | None
    left: float | None
    error: str


class DeviceErrorFacts(TypedDict):
    """
    A device error.

    `test_said`: the test's own result, if that was something else; empty if the test failed by this error.
    """

    reason: str
    kind: str
    exporter: str
    lease: str
    test_said: str


class TransferFacts(TypedDict):
    """
    An upload, a download, or a flash with all its uploads.

    - `kind`: `flash` or `transfer`. `image`: the name of what was flashed.
    - `bytes`: 0 if the exporter fetched the image itself, or if it was there.
    - `outcome`: `done`, `failed`, or `skipped`: the image was there.
    """

    role: str
    driver: str
    kind: str
    image: str
    start: float
    seconds: float
    bytes: int
    outcome: str


class Kept(TypedDict):
    """A folder with the evidence of one test."""

    root: str
    folder: str
    files: list[str]


class Metric(TypedDict):
    """A number that a test measured. `min`, `max`: its limits, None for no limit."""

    name: str
    value: float
    unit: str
    min: float | None
    max: float | None
    labels: dict[str, str]


class PlainRecord(TypedDict):
    """
    What every record says.

    - `attempt`: 1, or more if the test runs again.
    - `devices`: the devices of the test.
    """

    format: Literal["pytest-jumpstarter-record"]
    worker: str
    attempt: int
    devices: list[DeviceFacts]


class Record(PlainRecord, total=False):
    """
    The facts about one phase of a test.

    - `leases`: the leases that have changed since the last report.
      `states`: the transitions between board states that have changed since then.
    - `device_error`: why this phase is a device error.
    - `retried`: lines for people, on the first report of a new attempt. `is_superseded`: the test runs again.
    - `held`: lines for people: how to reach the device that is held after this failure.
    - `no_device`: a description of the device that was not available, so that the test was skipped.
    - `transfers`: the transfers that have ended since the last report.
    - `sections`: titles of the report's sections that this plugin added.
    - `artifacts`: the folder of the test.
    - `metrics`: what the test has measured so far.
    """

    leases: list[LeaseTimes]
    states: list[StateTimes]
    device_error: DeviceErrorFacts
    retried: list[str]
    is_superseded: bool
    held: list[str]
    no_device: str
    transfers: list[TransferFacts]
    sections: list[str]
    artifacts: Kept
    metrics: list[Metric]


def words_of(metric: Metric) -> str:
    """Return the value of a metric with its unit."""
    return f"{metric['value']} {metric['unit']}".rstrip()


def metric_property(metric: Metric) -> tuple[str, str]:
    """Return the property of a test that shows a metric in JUnit files."""
    labels = ",".join(f"{name}={value}" for name, value in metric["labels"].items())
    return f"metric.{metric['name']}" + (f"{{{labels}}}" if labels else ""), words_of(metric)


def record_of(report: object) -> Record | None:
    """Return our record on a report; None if there is none, or another object under its name."""
    found = getattr(report, "jumpstarter", None)
    return found if isinstance(found, dict) and found.get("format") == RECORD_FORMAT else None  # type: ignore[return-value]  # the format identifies it

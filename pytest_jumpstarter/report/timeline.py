"""The timeline of a report: one row of bars for each board, with time from left to right."""

from __future__ import annotations

import time
from typing import NamedTuple

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.evidence.record import LeaseTimes
from pytest_jumpstarter.report.run_data import RunData, TestData

WIDTH = 1000
"""The width of the whole run, in units of the picture."""

_MIN_WIDTH = 0.6
_KINDS = {"call": "test", "setup": "setup", "teardown": "teardown"}


class Bar(NamedTuple):
    """
    One bar.

    Attributes:
        kind: queue, idle, connect, setup, test or teardown.
        x: Its left end, in units.
        width: Its width in units, at least `_MIN_WIDTH`, so that it is visible.
        title: The text of its tooltip.
        is_bad: Whether it stands for something that failed.
    """

    kind: str
    x: float
    width: float
    title: str
    is_bad: bool = False


class Row(NamedTuple):
    """The bars of one exporter; `name` is empty for waits without success."""

    name: str
    bars: list[Bar]


class Timeline:
    """
    The layout of the timeline.

    Args:
        data: The run, from `RunRecord.as_data`.

    Attributes:
        rows: One row for each exporter.
        ticks: The marks of the time axis, each with its position and its text.
    """

    def __init__(self, data: RunData) -> None:
        self._start: float = min([data["run"]["start"], *(lease["asked"] for lease in data["leases"])])
        self._stop: float = data["run"]["stop"]
        self._leases = {lease["key"]: lease for lease in data["leases"]}
        bars: dict[str, list[Bar]] = {each["exporter"]: [] for each in data["exporters"]}
        for lease in data["leases"]:
            bars.setdefault(_row(lease), []).extend(self._lease_bars(lease))
        for test in data["tests"]:
            for device in test["devices"]:
                its_lease = self._leases.get(device["key"])
                if its_lease is not None and its_lease["ready"]:
                    bars[_row(its_lease)].extend(self._test_bars(test, its_lease))
        self.rows = [Row(name, each) for name, each in bars.items() if each]
        self.ticks = self._ticks()

    def _lease_bars(self, lease: LeaseTimes) -> list[Bar]:
        who = f"{lease['role']} of {lease['worker']}" + (f", lease {lease['lease']}" if lease["lease"] else "")
        end = lease["released"] or self._stop
        if not lease["ready"]:
            return [self._bar("queue", lease["asked"], end, f"queue, not acquired: {who}", is_bad=True)]
        connected = lease["prepared"] or lease["connected"] or end
        return [
            self._bar("queue", lease["asked"], lease["ready"], f"queue: {who}"),
            self._bar("idle", lease["ready"], end, f"held, no test runs: {who}"),
            self._bar("connect", lease["ready"], connected, f"connect: {who}"),
        ]

    def _test_bars(self, test: TestData, lease: LeaseTimes) -> list[Bar]:
        """Return a bar for each phase; only the part after the preparation and before the release of the board."""
        begin, end = lease["prepared"] or lease["ready"] or self._stop, lease["released"] or self._stop
        is_bad = test["outcome"] in ("failed", "error", "device error", "rerun")
        title = f"{test['id']} ({test['outcome'] or 'not ended'}, {test['worker']})"
        phases = test["phases"].items()
        spans = [(_KINDS[name], max(each["start"], begin), min(each["stop"], end)) for name, each in phases]
        return [
            self._bar(kind, start, stop, f"{kind}: {title}", is_bad=is_bad)
            for kind, start, stop in spans
            if stop > start
        ]

    def _bar(self, kind: str, start: float, stop: float, title: str, *, is_bad: bool = False) -> Bar:
        when = f"{format_duration(max(0.0, stop - start))} from +{format_duration(start - self._start)}"
        width = max(_MIN_WIDTH, (stop - start) * self._scale)
        return Bar(kind, round(self._x(start), 2), round(width, 2), f"{title}\n{when}", is_bad)

    @property
    def _scale(self) -> float:
        return WIDTH / max(self._stop - self._start, 0.001)

    def _x(self, moment: float) -> float:
        return (moment - self._start) * self._scale

    def _ticks(self) -> list[tuple[float, str]]:
        whole = self._stop - self._start
        steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
        step = next((step for step in steps if whole / step <= 6), 604800)
        moments = [self._start + number * step for number in range(int(whole / step) + 1)]
        return [(round(self._x(moment), 2), time.strftime("%H:%M:%S", time.localtime(moment))) for moment in moments]


def _row(lease: LeaseTimes) -> str:
    return str(lease["exporter"]) if lease["ready"] else ""

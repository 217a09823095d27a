"""`ExporterUse`: what each exporter did in a run, in counts and seconds, without the tests themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from pytest_jumpstarter.evidence.record import DeviceErrorFacts, DeviceFacts, LeaseTimes, Record
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.report.run_data import ExporterData


class ExporterUse:
    """
    Counts the tests, device errors and seconds of each exporter; reports and leases may come in any order.

    Attributes:
        leases: The latest news of each lease, by its key.
    """

    def __init__(self) -> None:
        self.leases: dict[str, LeaseTimes] = {}
        self._ended = _Sums()
        self._open: dict[tuple[str, str], _OpenTest] = {}

    def add(self, report: pytest.TestReport, record: Record) -> None:
        """Add the report of one phase of a test."""
        key = (record["worker"], report.nodeid)
        test = self._open.get(key)
        if test is None:
            test = self._open[key] = _OpenTest()
        self.add_leases(record.get("leases", ()))
        test.spans[str(report.when)] = (report.start, report.stop)
        test.devices = record["devices"] or test.devices
        test.fault = record.get("device_error") or test.fault
        if report.when not in ("setup", "call"):  # the teardown, or xdist's "???" for a test whose worker died
            self._ended.add(self._open.pop(key), self.leases)

    def add_leases(self, leases: Iterable[LeaseTimes]) -> None:
        """Add the latest news of leases."""
        for lease in leases:
            self.leases[lease["key"]] = lease

    def adopted(self) -> list[str]:
        """Return the leases that existed before the run, each with its exporter, for people."""
        found = [each for each in self.leases.values() if each["is_adopted"] and each["ready"] and each["lease"]]
        return list(
            dict.fromkeys(f"lease {each['lease']} on {each['exporter'] or 'an unknown exporter'}" for each in found)
        )

    def exporters(self) -> list[ExporterData]:
        """Return what each exporter did, by name; waits without success are last, under an empty name."""
        sums = self._ended.copy()
        for test in self._open.values():
            sums.add(test, self.leases)
        by_name: dict[str, list[LeaseTimes]] = {}
        for lease in self.leases.values():
            by_name.setdefault(lease["exporter"] if lease["ready"] else "", []).append(lease)
        names = sorted({*by_name, *sums.faults}, key=lambda name: (not name, name))
        return [_exporter(name, by_name.get(name, []), sums) for name in names]


class _OpenTest:
    """A test whose teardown has not been reported yet; `spans` are the start and end of each phase."""

    __slots__ = ("devices", "fault", "spans")

    def __init__(self) -> None:
        self.devices: list[DeviceFacts] = []
        self.fault: DeviceErrorFacts | None = None
        self.spans: dict[str, tuple[float, float]] = {}


class _Sums:
    """Tests and device errors by exporter, and by lease the seconds in which tests ran."""

    def __init__(self) -> None:
        self.tests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.busy: dict[str, float] = {}

    def copy(self) -> _Sums:
        copied = _Sums()
        copied.tests, copied.faults, copied.busy = self.tests.copy(), self.faults.copy(), self.busy.copy()
        return copied

    def add(self, test: _OpenTest, leases: dict[str, LeaseTimes]) -> None:
        names = {device["exporter"] for device in test.devices}
        for name in names:
            self.tests[name] += 1
        if test.fault:
            self.faults[test.fault.get("exporter") or (next(iter(names)) if len(names) == 1 else "")] += 1
        for device in test.devices:
            if (lease := leases.get(device["key"])) is not None:
                self.busy[device["key"]] = self.busy.get(device["key"], 0.0) + _busy(lease, test.spans.values())


def _busy(lease: LeaseTimes, spans: Iterable[tuple[float, float]]) -> float:
    """Return how long a test ran on a lease; the preparation of its device, during the first setup, does not count."""
    if lease["ready"] is None:
        return 0.0
    begin, end = lease["prepared"] or lease["ready"], lease["released"]
    return sum(max(0.0, (stop if end is None else min(stop, end)) - max(start, begin)) for start, stop in spans)


def _exporter(name: str, leases: list[LeaseTimes], sums: _Sums) -> ExporterData:
    now = real_time.time()
    held = [lease for lease in leases if lease["ready"]]
    seconds = sum((lease["released"] or now) - (lease["ready"] or now) for lease in held)
    busy = sum(sums.busy.get(lease["key"], 0.0) for lease in held)
    return {
        "exporter": name,
        "labels": next((lease["labels"] for lease in leases if lease["labels"]), {}),
        "tests": sums.tests[name],
        "device_errors": sums.faults[name],
        "queued_seconds": round(sum((each["ready"] or each["released"] or now) - each["asked"] for each in leases), 3),
        "held_seconds": round(seconds, 3),
        "busy_seconds": round(busy, 3),
        "busy_percent": round(100 * min(1.0, busy / seconds)) if seconds else 0,
    }

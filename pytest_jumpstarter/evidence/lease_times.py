"""
In the process that leases: what happened on which board, when, put on the reports of tests.

The report's record has the devices of the test, and each lease of which there is news since the last report. What comes
after the last report travels in xdist's `workeroutput`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.evidence.record import DeviceFacts, LeaseTimes, Record
from pytest_jumpstarter.evidence.versions import versions

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device

LEASES = "jumpstarter_leases"
"""The key in xdist's `workeroutput`."""

LEASE_TIMES = pytest.StashKey["LeaseTimesRecorder"]()


class LeaseTimesRecorder:
    """
    Listens to the hooks of leases and devices, and tells on the reports of tests.

    All times are Unix time, as pytest's own in reports are: they are compared between processes.

    Args:
        worker: The name of this process among those that test.
        start: Since when a lease that nobody asked for by us may have been waited for.
    """

    def __init__(self, worker: str, *, start: float) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)
        self._setup_start = start
        self._asked: dict[str, float] = {}
        self._records: dict[str, LeaseTimes] = {}
        self._waited: dict[str, float] = {}
        self._news: dict[str, LeaseTimes] = {}

    def take_news(self) -> list[LeaseTimes]:
        """Return the leases of which there is news since the last call."""
        news, self._news = list(self._news.values()), {}
        return [record.copy() for record in news]

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_request(self, role: str) -> None:
        """Note since when a lease is waited for; one may be asked for twice."""
        self._asked.setdefault(role, time.time())

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_acquired(self, lease: Lease, role: str) -> None:
        """Note the end of the wait."""
        self._begin(role, lease=lease.name, exporter=lease.exporter or "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> Generator[None, Any, Any]:
        """Note when the device was connected, and when it was prepared."""
        lease = device.lease.name if device.lease is not None else ""
        record = self._records.get(device.role)
        if record is None or record["lease"] != lease or record["released"] is not None:
            record = self._begin(device.role, lease=lease, exporter=device.exporter.name)
        labels = None if device.exporter.labels is None else dict(device.exporter.labels)
        record["exporter"], record["labels"], record["connected"] = device.exporter.name, labels, time.time()
        self._note(record)
        try:
            return (yield)
        finally:
            record["prepared"] = time.time()
            self._note(record)

    @pytest.hookimpl(trylast=True)
    def pytest_jumpstarter_device_release(self, device: Device) -> None:
        """Note that the device is put away: the end, where the lease is not ours to release."""
        self._end(device.role, device.lease.name if device.lease is not None else "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_released(self, lease: Lease, role: str) -> None:
        """Note the end of the lease."""
        self._end(role, lease.name)

    def begin(self) -> None:
        """Note since when the next lease may be waited for, if none is asked for by us."""
        self._setup_start = time.time()
        self._waited.clear()
        self._asked.clear()

    def add(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Put into the record what the devices of the test are, and the news."""
        if call.when == "setup" or self._asked:
            self._give_up(record)
        record["devices"] = self._devices(item)
        if self._news:
            record["leases"] = self.take_news()
        if record["devices"]:
            report.user_properties.extend(_properties(record["devices"], record["attempt"]))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """In a worker of xdist, send what came after the last report with `workeroutput`."""
        result = yield
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[LEASES] = self.take_news()
        return result

    def _begin(self, role: str, *, lease: str, exporter: str) -> LeaseTimes:
        now = time.time()
        asked = self._asked.pop(role, self._setup_start)
        self._waited[role] = now - asked
        self._records[role] = {
            "key": f"{self._worker}-{next(self._numbers)}",
            "worker": self._worker,
            "role": role,
            "lease": lease,
            "exporter": exporter,
            "labels": {},
            "asked": asked,
            "ready": now,
            "connected": None,
            "prepared": None,
            "released": None,
        }
        self._note(self._records[role])
        return self._records[role]

    def _note(self, record: LeaseTimes) -> None:
        self._news[record["key"]] = record

    def _end(self, role: str, lease: str) -> None:
        record = self._records.get(role)
        if record is not None and record["lease"] == lease:
            record["released"] = time.time()
            self._note(record)

    def _give_up(self, record: Record) -> None:
        """Note the waits that came to nothing: those that are not over when the phase is."""
        fault = record.get("device_error")
        lease, exporter = (fault["lease"], fault["exporter"]) if fault is not None else ("", "")
        for role in list(self._asked):
            times = self._begin(role, lease=lease, exporter=exporter)
            times["ready"], times["released"] = None, time.time()
            self._note(times)

    def _devices(self, item: pytest.Item) -> list[DeviceFacts]:
        """Return the devices of the test, but for those that went back before it began and that it does not miss."""
        devices = devices_of(item)
        return [
            self._device(role)
            for role, record in self._records.items()
            if role in devices.roles
            and (devices.failure is not None or (record["released"] or self._setup_start) >= self._setup_start)
        ]

    def _device(self, role: str) -> DeviceFacts:
        record = self._records[role]
        until = record["released"] or time.time()
        return {
            "role": role,
            "exporter": record["exporter"],
            "labels": record["labels"],
            "lease": record["lease"],
            "key": record["key"],
            "wait_seconds": round(self._waited.get(role, 0.0), 3),
            "hold_seconds": round(until - record["ready"], 3) if record["ready"] else 0.0,
        }


def _properties(devices: list[DeviceFacts], attempt: int) -> list[tuple[str, object]]:
    """Return the JUnit properties of a test; README has their names."""
    properties: list[tuple[str, object]] = [("jumpstarter.attempt", attempt)]
    properties += [(f"jumpstarter.{name}", version) for name, version in versions().items()]
    for device in devices:
        labels = ",".join(f"{key}={value}" for key, value in (device["labels"] or {}).items())
        facts: dict[str, object] = {**device, "labels": labels}
        properties += [
            (f"jumpstarter.{device['role']}.{name}", facts[name])
            for name in ("exporter", "labels", "lease", "wait_seconds", "hold_seconds")
        ]
    return properties

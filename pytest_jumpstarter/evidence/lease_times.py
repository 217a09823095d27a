"""
In the process that leases: adds the times of leases and devices to the reports of tests.

The record of a report contains the devices of the test, and each lease that has changed since the last report. Changes
after the last report are sent in xdist's `workeroutput`.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.evidence.record import DeviceFacts, LeaseTimes, Record
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device

LEASES = "jumpstarter_leases"
"""The key of leases in xdist's `workeroutput`."""

LEASE_TIMES: pytest.StashKey[LeaseTimesRecorder] = pytest.StashKey()


class LeaseTimesRecorder:
    """
    Records the times of leases and devices from their hooks, and adds them to the reports of tests.

    All times are Unix time, as in pytest's reports, because times of several processes are compared.

    Args:
        worker: The name of this process: that of the xdist worker, or `main`.
        start: When the first test started; a lease without a request of ours counts as requested then.
    """

    def __init__(self, worker: str, *, start: float) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)
        self._setup_start = start
        self._asked: dict[str, float] = {}
        self._records: dict[str, LeaseTimes] = {}
        self._waited: dict[str, float] = {}
        self._news: dict[str, LeaseTimes] = {}
        self._early_failures: dict[str, list[str]] = {}
        self._facts: dict[tuple[str, str], DeviceFacts] = {}

    def take_news(self) -> list[LeaseTimes]:
        """Return the leases that have changed since the last call."""
        news, self._news = list(self._news.values()), {}
        return [record.copy() for record in news]

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_request(self, role: str) -> None:
        """Note the start of the wait; a lease may be requested twice, and the first request counts."""
        self._asked.setdefault(role, real_time.time())

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_acquired(self, lease: Lease, role: str) -> None:
        """Note the end of the wait."""
        self._begin(role, lease=lease.name, exporter=lease.exporter or "")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> Generator[None, object, object]:
        """Note when the device was connected, and when other implementations of this hook had prepared it."""
        lease = device.lease.name if device.lease is not None else ""
        record = self._records.get(device.role)
        if record is None or record["lease"] != lease or record["released"] is not None:
            record = self._begin(device.role, lease=lease, exporter=device.exporter.name)
        labels = None if device.exporter.labels is None else dict(device.exporter.labels)
        record["exporter"], record["labels"], record["connected"] = device.exporter.name, labels, real_time.time()
        self._note(record)
        try:
            return (yield)
        finally:
            record["prepared"] = real_time.time()
            self._note(record)

    @pytest.hookimpl(trylast=True)
    def pytest_jumpstarter_device_release(self, device: Device) -> None:
        """Note the release of the device; this is the end if the lease is not ours to release."""
        self._end(device.role, device.lease.name if device.lease is not None else "")

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_lease_released(self, lease: Lease, role: str) -> None:
        """Note the end of the lease."""
        self._end(role, lease.name)

    def key_of(self, role: str) -> str:
        """Return the key of the latest lease of a role; empty if there is none."""
        record = self._records.get(role)
        return record["key"] if record is not None else ""

    def add_hook_failure(self, role: str, lease: str, failure: str) -> None:
        """Note what an exporter says of a hook; without a lease, before the record of the device begins."""
        record = self._records.get(role)
        if record is not None and record["lease"] == lease and (lease or record["released"] is None):
            record["hook_failures"].append(failure)
            self._note(record)
        else:
            self._early_failures.setdefault(role, []).append(failure)

    def begin(self) -> None:
        """Start a test: a lease without a request of ours counts as requested now."""
        self._setup_start = real_time.time()
        if self._waited:
            self._waited.clear()
            self._facts.clear()
        self._asked.clear()

    def add(self, item: pytest.Item, call: pytest.CallInfo[None], record: Record) -> None:
        """Add the devices of the test and the changed leases to the record."""
        if call.when == "setup" or self._asked:
            self._give_up(record)
        record["devices"] = self._devices(item)
        if self._news:
            record["leases"] = self.take_news()

    def hold_seconds(self, role: str) -> float:
        """Return how long the latest device of a role has been held; 0 if there was none."""
        record = self._records[role]
        return round((record["released"] or real_time.time()) - record["ready"], 3) if record["ready"] else 0.0

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """In a worker of xdist, send the changes after the last report in `workeroutput`."""
        result = yield
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[LEASES] = self.take_news()
        return result

    def _begin(self, role: str, *, lease: str, exporter: str) -> LeaseTimes:
        now = real_time.time()
        is_adopted = role not in self._asked  # only for a lease of ours there is a request
        asked = self._asked.pop(role, self._setup_start)
        self._waited[role] = now - asked
        self._records[role] = {
            "key": f"{self._worker}-{next(self._numbers)}",
            "worker": self._worker,
            "role": role,
            "lease": lease,
            "exporter": exporter,
            "labels": {},
            "is_adopted": is_adopted,
            "asked": asked,
            "ready": now,
            "connected": None,
            "prepared": None,
            "released": None,
            "hook_failures": self._early_failures.pop(role, []),
        }
        self._note(self._records[role])
        return self._records[role]

    def _note(self, record: LeaseTimes) -> None:
        self._news[record["key"]] = record
        self._facts.clear()

    def _end(self, role: str, lease: str) -> None:
        record = self._records.get(role)
        if record is not None and record["lease"] == lease:
            record["released"] = real_time.time()
            self._note(record)

    def _give_up(self, record: Record) -> None:
        """Note the waits without success: those that have not ended at the end of the phase."""
        fault = record.get("device_error")
        lease, exporter = (fault["lease"], fault["exporter"]) if fault is not None else ("", "")
        for role in list(self._asked):
            times = self._begin(role, lease=lease, exporter=exporter)
            times["ready"], times["released"] = None, real_time.time()
            self._note(times)

    def _devices(self, item: pytest.Item) -> list[DeviceFacts]:
        """Return the devices of the test, without those released before its start, unless it failed to get one."""
        devices = devices_of(item)
        return [
            self._device(role, devices.states.get(role, ""))
            for role, record in self._records.items()
            if devices.has(role)
            and (devices.failure is not None or (record["released"] or self._setup_start) >= self._setup_start)
        ]

    def _device(self, role: str, state: str) -> DeviceFacts:
        """Return the facts about the device of a role; the same object until one of them changes."""
        if (known := self._facts.get((role, state))) is None:
            record = self._records[role]
            known = self._facts[role, state] = {
                "role": role,
                "exporter": record["exporter"],
                "labels": record["labels"],
                "lease": record["lease"],
                "key": record["key"],
                "wait_seconds": round(self._waited.get(role, 0.0), 3),
                "hook_failures": list(record["hook_failures"]),
                "state": state,
            }
        return known

"""
In the process that leases: what a device said during a test that fails, put on the test's report.

A section of the report travels between processes and is shown by the terminal, by our files, and by other plugins'.
The report's record names the sections that are ours, for those who would leave them out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.evidence.record import Record

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.recording import Recording
    from pytest_jumpstarter.device.shared_port import SharedPort

Phases = Sequence[tuple[str, float]]
"""The phases of a test so far, each with the Unix time at which it began."""

LINES = 200
_BYTES = 32_768
_LINES_BEFORE = 20  # of what came before a test that has nothing to show


class Sections:
    """
    Watches the devices of tests.

    What comes between two tests belongs to the second.
    """

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._gone: set[str] = set()
        self._ends: dict[SharedPort | ExporterLog, int] = {}

    def devices(self, item: pytest.Item) -> list[Device]:
        """Return the devices that the test had, the one that went back in its teardown included."""
        roles = devices_of(item).roles
        return [device for role, device in self._devices.items() if role in roles]

    def settle(self, item: pytest.Item) -> None:
        """Wait a moment for what exporters said just now."""
        for device in self.devices(item):
            if device.log is not None and self.is_here(device):
                device.log.settle()

    def is_here(self, device: Device) -> bool:
        """Return whether the device has not been released yet."""
        return device.role not in self._gone

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> None:
        """Watch the device from now on."""
        self._devices[device.role] = device
        self._gone.discard(device.role)

    @pytest.hookimpl(trylast=True)
    def pytest_jumpstarter_device_release(self, device: Device) -> None:
        """Note that the device is of no use to the next test."""
        self._gone.add(device.role)

    def begin(self) -> None:
        """Begin a test, with what came since the last one."""
        for role in self._gone:
            self._devices.pop(role, None)
        self._gone.clear()
        for source, end in self._ends.items():
            source.since = end
        self._ends.clear()

    def add(
        self,
        item: pytest.Item,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        record: Record,
        phases: Phases,
    ) -> None:
        """Add to a report of a failure what the consoles said; note where the next test begins."""
        if report.outcome in ("failed", "rerun"):
            self.settle(item)
            sections = [section for device in self.devices(item) for section in self._sections(device, phases)]
            report.sections.extend(sections)
            record["sections"] = [title for title, _ in sections]
        if call.when == "teardown":
            devices = self.devices(item)
            self._ends = {line: line.recording.end for device in devices for line in device.serial_ports}
            self._ends |= {device.log: device.log.end for device in devices if device.log is not None}

    def _sections(self, device: Device, phases: Phases) -> Iterator[tuple[str, str]]:
        for line in device.serial_ports:
            title = f"console of {device}" + (f", {line.path}" if len(device.serial_ports) > 1 else "")
            lease = f"lease {device.lease.name}" if device.lease is not None else ""
            yield title, "\n".join(_console(line, lease, phases))
        if device.log is not None and (records := device.log.since_test()):
            said = [(each.moment, line) for each in records[-LINES:] for line in clean(str(each)).split("\n")]
            yield f"exporter log of {device}", "\n".join(_in_phases(said[-LINES:], phases))


def _console(line: SharedPort, lease: str, phases: Phases) -> Iterator[str]:
    """Yield what a console said during a test, or why there is nothing."""
    said = list(stamped(line.recording, line.since))[-LINES:]
    if said:
        yield from filter(None, [lease])
        yield from _in_phases(said, phases)
    elif line.failure:
        yield line.failure
    else:
        before = [shown(*each) for each in stamped(line.recording, 0)][-_LINES_BEFORE:]
        yield "(nothing during this test; before it:)" if before else "(nothing)"
        yield from before


def _in_phases(said: list[tuple[float, str]], phases: Phases) -> Iterator[str]:
    """Yield the lines, each with its time, with a line before those of each phase of the test."""
    left, now = list(phases), ""
    for moment, text in said:
        while len(left) > 1 and left[1][1] <= moment:
            left.pop(0)
        if left[0][0] != now:
            now = left[0][0]
            yield f"--- {now}"
        yield shown(moment, text)


def stamped(recording: Recording, position: int) -> Iterator[tuple[float, str]]:
    """Yield the last lines since `position`, each with the time at which it began."""
    position, data = recording.tail(position, _BYTES)
    for line in data.removesuffix(b"\n").split(b"\n") if data else ():
        moment = recording.time_of(position)
        for text in clean(line.decode("utf-8", "replace").rstrip("\r")).split("\n"):
            yield moment, text
        position += len(line) + 1


def shown(moment: float, text: str) -> str:
    """Return a line with its time."""
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    return f"{clock}.{int(moment % 1 * 1000):03} {text}"


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Return `text` without escape sequences, and without what neither XML nor HTML can hold."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))

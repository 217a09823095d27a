"""
In the process that leases: adds the output of consoles and exporters to the report of a failed test.

xdist sends sections of reports between processes; the terminal, our files and other plugins show them. The record of
the report contains the titles of our sections, because the JUnit plugin and our summary need to find them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import last_characters, longest, safe

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.recording import Recording
    from pytest_jumpstarter.device.shared_port import SharedPort

Phases = Sequence[tuple[str, float]]
"""The phases of a test so far, each with its start in Unix time."""

LINES = 200
"""The maximum for each section."""

_BYTES = 32_768  # at most, read from the end of a recording
_LINES_BEFORE = 20  # shown from before the test, if a console had no output during the test


class Sections:
    """
    Knows the devices of tests, and where the output of each test starts.

    Output between two tests belongs to the second.
    """

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._released: set[str] = set()
        self._ends: dict[SharedPort | ExporterLog, int] = {}

    def devices(self, item: pytest.Item) -> list[Device]:
        """Return the devices of the test, also those that were released in its teardown."""
        devices = devices_of(item)
        return [device for role, device in self._devices.items() if devices.has(role)]

    def settle(self, item: pytest.Item) -> None:
        """Wait for log records of exporters that are still on the way."""
        for device in self.devices(item):
            if (log := connected(device).log) is not None and self.is_in_use(device):
                log.settle()

    def is_in_use(self, device: Device) -> bool:
        """Return whether the device has not been released yet."""
        return device.role not in self._released

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> None:
        """Add the device."""
        self._devices[device.role] = device
        self._released.discard(device.role)

    @pytest.hookimpl(trylast=True)
    def pytest_jumpstarter_device_release(self, device: Device) -> None:
        """Note that the next test cannot use the device."""
        self._released.add(device.role)

    def begin(self) -> None:
        """Start a test: its output starts after that of the last test."""
        for role in self._released:
            self._devices.pop(role, None)
        self._released.clear()
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
        """Add the output to the report of a failure; after a teardown, note where the output of the test ends."""
        devices = self.devices(item)
        if report.outcome in ("failed", "rerun"):
            self.settle(item)
            sections = [section for device in devices for section in self._sections(device, phases)]
            report.sections.extend(sections)
            record["sections"] = [title for title, _ in sections]
        for device in devices:
            self._add_results(item, device, report, record)
        if call.when == "teardown":
            self._ends = {}
            for each in map(connected, devices):
                self._ends |= {port: port.recording.end for port in each.serial_ports}
                if each.log is not None:
                    self._ends[each.log] = each.log.end

    def _add_results(self, item: pytest.Item, device: Device, report: pytest.TestReport, record: Record) -> None:
        """Add the results of tests that ran on the board, as a section and as properties."""
        if results := connected(device).take_results():
            title = f"tests on {device}"
            report.sections.append((title, "\n".join(safe(str(result)) for result in results)))
            record["sections"] = [*record.get("sections", []), title]
            properties = [(f"jumpstarter.test.{safe(each.name)}", each.outcome) for each in results]
            report.user_properties.extend(properties)
            item.user_properties.extend(properties)  # JUnit files have those of the teardown

    def _sections(self, device: Device, phases: Phases) -> Iterator[tuple[str, str]]:
        ports, log = connected(device).serial_ports, connected(device).log
        for port in ports:
            title = f"console of {device}" + (f", {port.path}" if len(ports) > 1 else "")
            lease = f"lease {device.lease.name}" if device.lease is not None else ""
            yield title, "\n".join(_console(port, lease, phases))
        if log is not None and (records := log.to_show()):
            lines = [(each.moment, line) for each in records[-LINES:] for line in safe(str(each)).split("\n")]
            yield f"exporter log of {device}", "\n".join(_with_phases(lines[-LINES:], phases))


def _console(port: SharedPort, lease: str, phases: Phases) -> Iterator[str]:
    """Yield the output of a console during a test, or why there is none."""
    gaps = list(_gaps(port, phases[0][1]))
    lines = list(_timed_lines(port.recording, port.since))
    if lines:
        yield from filter(None, [lease])
        yield from _with_phases(sorted([*lines, *gaps], key=itemgetter(0))[-LINES:], phases)
    elif port.failure:
        yield port.failure
    else:
        yield from (_with_time(*each) for each in gaps[-_LINES_BEFORE:])
        before = [_with_time(*each) for each in _timed_lines(port.recording, 0)][-_LINES_BEFORE:]
        yield "(nothing during this test; before it:)" if before else "(nothing)"
        yield from before


def _gaps(port: SharedPort, since: float) -> Iterator[tuple[float, str]]:
    """Yield when the port was closed, so that nothing was recorded, and when it was opened again."""
    for gap in port.gaps:
        if gap.closed >= since:
            yield gap.closed, f"(port closed: {gap.reason})"
        elif gap.opened is None:
            yield since, f"(port closed since {real_time.clock(gap.closed)}: {gap.reason})"
        if gap.opened is not None and gap.opened >= since:
            yield gap.opened, "(port open again)"


def _with_phases(lines: list[tuple[float, str]], phases: Phases) -> Iterator[str]:
    """Yield the lines with their times, and a heading before the lines of each phase of the test."""
    left, current = list(phases), ""
    for moment, text in lines:
        while len(left) > 1 and left[1][1] <= moment:
            left.pop(0)
        if left[0][0] != current:
            current = left[0][0]
            yield f"-- {current}"
        yield _with_time(moment, text)


def _timed_lines(recording: Recording, position: int) -> Iterator[tuple[float, str]]:
    """Yield the last lines since `position`, each with the Unix time at which it began."""
    begin = max(position, recording.end - _BYTES)
    position, data = recording.tail(position, _BYTES + longest())  # a secret may cross `begin`
    for line in data.removesuffix(b"\n").split(b"\n") if data else ():
        moment, end = recording.time_of(position), position + len(line) + 1
        if end > begin:
            text = line.decode("utf-8", "replace").rstrip("\r")
            for part in last_characters(text, end - max(position, begin)).split("\n"):
                yield moment, part
        position = end


def _with_time(moment: float, text: str) -> str:
    """Return a line with its time of day."""
    clock = real_time.clock(moment)
    return f"{clock}.{int(moment % 1 * 1000):03} {text}"

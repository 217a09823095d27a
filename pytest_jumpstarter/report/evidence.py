"""
In the process that leases: what a device said during a test that fails, put on the test's report.

A section of the report travels between processes and is shown by the terminal, by our files, and by other plugins'.
`report.evidence` names the sections that are ours, for those who would leave them out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.report.ledger import clean

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.recording import Recording
    from pytest_jumpstarter.device.shared_port import SharedPort

LINES = 200
_BYTES = 32_768
_LINES_BEFORE = 20  # of what came before a test that has nothing to show


class Evidence:
    """
    Watches the devices of tests.

    What comes between two tests belongs to the second.

    Args:
        uses: Tells whether a test asks for the device of a role.
        is_eager: Whether consoles are read from the start of a lease on, before a test opens one.
        fatal: What ends a waiting `expect` at once, see `Console.fatal`; None for what usually does.
    """

    def __init__(
        self, uses: Callable[[pytest.Item, str], bool], *, is_eager: bool, fatal: Sequence[str] | None = None
    ) -> None:
        self._uses = uses
        self._is_eager = is_eager
        self._fatal = fatal
        self._devices: dict[str, Device] = {}
        self._gone: set[str] = set()
        self._ends: dict[SharedPort | ExporterLog, int] = {}
        self._phases = [("setup", time.time())]  # we come in the middle of one

    def devices(self, item: pytest.Item) -> list[Device]:
        """Return the devices that the test had, the one that went back in its teardown included."""
        return [device for role, device in self._devices.items() if self._uses(item, role)]

    def settle(self, item: pytest.Item) -> None:
        """Wait a moment for what exporters said just now."""
        for device in self.devices(item):
            if device.log is not None and self.is_here(device):
                device.log.settle()

    def is_here(self, device: Device) -> bool:
        """Tell whether the device has not gone back yet."""
        return device.role not in self._gone

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> None:
        """Watch the device from now on."""
        self._devices[device.role] = device
        self._gone.discard(device.role)
        if self._fatal is not None:
            device.fatal = tuple(self._fatal)
        if self._is_eager:
            device.record()

    @pytest.hookimpl(trylast=True)
    def pytest_jumpstarter_device_release(self, device: Device) -> None:
        """Note that the device is of no use to the next test."""
        self._gone.add(device.role)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Begin anew, with what came since the last test."""
        for role in self._gone:
            self._devices.pop(role, None)
        self._gone.clear()
        for source, end in self._ends.items():
            source.since = end
        self._ends.clear()
        self._phases = [("setup", time.time())]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Note where the call begins."""
        self._phases.append(("call", time.time()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Note where the teardown begins."""
        self._phases.append(("teardown", time.time()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to a report of a failure what the consoles said; note where the next test begins."""
        report = yield
        devices = self.devices(item)
        if report.outcome in ("failed", "rerun"):
            self.settle(item)
            sections = [section for device in devices for section in self._sections(device)]
            report.sections.extend(sections)
            report.evidence = [title for title, _ in sections]  # type: ignore[attr-defined]  # what plugins add
        if call.when == "teardown":
            self._ends = {line: line.recording.end for device in devices for line in device.serial_ports}
            self._ends |= {device.log: device.log.end for device in devices if device.log is not None}
        return report

    def _sections(self, device: Device) -> Iterator[tuple[str, str]]:
        for line in device.serial_ports:
            title = f"console of {device}" + (f", {line.path}" if len(device.serial_ports) > 1 else "")
            yield title, self._console(line, f"lease {device.lease.name}" if device.lease is not None else "")

        if device.log is not None and (records := device.log.since_test()):
            said = [(each.moment, line) for each in records[-LINES:] for line in clean(str(each)).split("\n")]
            yield f"exporter log of {device}", "\n".join(self._in_phases(said[-LINES:]))

    def _console(self, line: SharedPort, lease: str) -> str:
        said = list(stamped(line.recording, line.since))[-LINES:]
        if not said and line.failure:
            return line.failure
        if not said:
            before = [shown(*each) for each in stamped(line.recording, 0)][-_LINES_BEFORE:]
            return "\n".join(["(nothing during this test; before it:)" if before else "(nothing)", *before])
        return "\n".join([*filter(None, [lease]), *self._in_phases(said)])

    def _in_phases(self, said: list[tuple[float, str]]) -> Iterator[str]:
        """Yield the lines, each with its time, with a line before those of each phase of the test."""
        phases, now = list(self._phases), ""
        for moment, text in said:
            while len(phases) > 1 and phases[1][1] <= moment:
                phases.pop(0)
            if phases[0][0] != now:
                now = phases[0][0]
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

"""`HookEvents`: passes events of leases and devices to hooks, to the terminal and to other workers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES
from pytest_jumpstarter.evidence.transfer_facts import TransferRecorder
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.report.progress import Progress
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running.current_test import CurrentTest
from pytest_jumpstarter.running.earlier_runs import EarlierRuns
from pytest_jumpstarter.running.interrupt import Interrupter
from pytest_jumpstarter.running.skip_without_device import DeviceSkips
from pytest_jumpstarter.workers.channel import WorkerEnd
from pytest_jumpstarter.workers.refusals import Refusals

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.device.transfers import Transfer
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted
    from pytest_jumpstarter.leasing.health import Health


class HookEvents(Events):
    """
    Passes events of leases and devices to hooks, to the terminal and to other workers.

    Args:
        worker_end: The connection to xdist's controller process; None without xdist.

    Attributes:
        healths: The health of each role's device.
        skips: Skips tests that get no device; None if such tests fail.
        progress: Shows transfers; None if the user wants few lines.
        transfers: Records transfers.
    """

    skips: DeviceSkips | None = None
    refusals: Refusals | None = None
    progress: Progress | None = None

    def __init__(
        self, config: pytest.Config, terminal: Terminal, test: CurrentTest, worker_end: WorkerEnd | None
    ) -> None:
        self.healths: Mapping[str, Health] = {}
        self._config = config
        self.is_quiet = config.get_verbosity() < 0
        self._worker_end = worker_end
        self._hook = config.hook
        self._terminal = terminal
        self.say = terminal.say
        self._test = test
        self._interrupter = Interrupter()
        self._earlier_runs = EarlierRuns(config)
        self.transfers = TransferRecorder()

    def say_once(self, line: str) -> None:
        """Show it once for all workers."""
        self._terminal.say_once(line)

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Call `pytest_jumpstarter_lease_request`."""
        self._hook.pytest_jumpstarter_lease_request(request=request, role=role, config=self._config)

    def on_acquired(self, lease: Lease, role: str) -> None:
        """Call `pytest_jumpstarter_lease_acquired`."""
        self._hook.pytest_jumpstarter_lease_acquired(lease=lease, role=role, config=self._config)

    def on_ready(self, device: Device) -> None:
        """Call `pytest_jumpstarter_device_ready`."""
        self._hook.pytest_jumpstarter_device_ready(device=device, config=self._config)

    def on_release(self, device: Device) -> None:
        """Call `pytest_jumpstarter_device_release`."""
        self._hook.pytest_jumpstarter_device_release(device=device, config=self._config)

    def on_released(self, lease: Lease, role: str) -> None:
        """Call `pytest_jumpstarter_lease_released`."""
        self._hook.pytest_jumpstarter_lease_released(lease=lease, role=role, config=self._config)

    def on_wait(self, wanted: Sequence[Wanted]) -> None:
        """Tell the other workers of xdist which devices this one waits for; one of them may release a suitable one."""
        if self._worker_end is not None:
            self._worker_end.wait([(each.selector, each.exporter) for each in wanted])

    def on_wait_over(self) -> None:
        """Tell the other workers that the wait is over."""
        if self._worker_end is not None:
            self._worker_end.tell("wait_over", "")

    def seconds_of_tests(self, wanted: Wanted) -> float:
        """Look in the history; a worker of xdist does not know which of the tests it will get."""
        return self._earlier_runs.seconds_of(wanted) if self._worker_end is None else 0.0

    def wanted_by(self, exporters: Sequence[ExporterIdentity]) -> str:
        """Ask xdist's controller process for a worker that has waited too long for one of these exporters."""
        boards = [(exporter.name, dict(exporter.labels or {})) for exporter in exporters]
        return self._worker_end.wanted_by(boards) if self._worker_end is not None else ""

    def refused_exporters(self) -> Collection[str]:
        """Ask xdist's controller process for what other workers have learned."""
        if self._worker_end is not None:
            return self._worker_end.refused_exporters()
        return self.refusals.names if self.refusals is not None else ()

    def on_refused(self, exporters: Collection[str]) -> None:
        """Tell other workers, and later runs."""
        if self._worker_end is not None:
            for name in exporters:
                self._worker_end.tell("refused", name)
        elif self.refusals is not None:
            self.refusals.add(exporters)

    def on_reserved(self, lease: str) -> None:
        """Tell xdist's controller process not to release this lease."""
        if self._worker_end is not None:
            self._worker_end.tell("keep", lease)

    def on_no_device(self, wanted: str, error: LeaseTimeout) -> None:
        """Skip the test, with `--jmp-no-device skip`."""
        if self.skips is not None:
            self.skips.skip(wanted, error)

    def on_motd(self, motd: str) -> None:
        """Show it once."""
        self._terminal.say_once(f"message of the day: {motd}")

    def on_loss(self, role: str, loss: DeviceError) -> None:
        """End the test if it still waits for the lost device after a while, but not while it is in a debugger."""
        item, health = self._test.item, self.healths.get(role)

        def is_waiting() -> bool:
            is_the_same = self._test.item is item and self.healths.get(role) is health
            return is_the_same and self._test.is_interruptible

        if item is not None and role in devices_of(item).roles:
            self._interrupter.interrupt(loss, is_waiting)

    def on_start(self) -> None:
        """Tell the process that prints about this process; install the handler that ends a blocked test."""
        if self._worker_end is not None:
            self._worker_end.tell("hello", str(os.getpid()))
        self._interrupter.install()

    def on_end(self) -> None:
        """Restore the signal handler."""
        self._interrupter.restore()

    def on_hook_failure(self, role: str, lease: str, failure: str) -> None:
        """Keep the failure for the end of the run, and add it to the record of the lease."""
        self._terminal.add_failure("hook_failure", failure)
        if (times := self._config.stash.get(LEASE_TIMES, None)) is not None:
            times.add_hook_failure(role, lease, failure)

    def on_transfer(self, role: str, transfer: Transfer) -> None:
        """Record the transfer, and show its progress."""
        self.transfers.note(role, transfer)
        if self.progress is not None:
            self.progress.watch(role, transfer)

    def on_failure(self, failure: str) -> None:
        """Keep the failure for the end of the run."""
        self._terminal.add_failure("failure", failure)

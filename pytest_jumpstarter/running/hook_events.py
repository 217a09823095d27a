"""`HookEvents`: what happens to leases and devices, passed on to hooks, the terminal and other workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.running.current_test import CurrentTest
from pytest_jumpstarter.running.interrupt import Interrupter
from pytest_jumpstarter.running.skip_without_device import DeviceSkips
from pytest_jumpstarter.workers.channel import WorkerEnd

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing import LeaseRequest, Wanted
    from pytest_jumpstarter.leasing.health import Health


class HookEvents(Events):
    """
    Pass on what happens to the hooks and to the terminal.

    Attributes:
        healths: The state of each role's device.
        skips: Skips tests for which no device is to be had; None where these fail.
    """

    skips: DeviceSkips | None = None

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
        """Tell the other workers of xdist what is waited for: one of them may have leased it for long."""
        if self._worker_end is not None:
            self._worker_end.wait([(each.selector, each.exporter) for each in wanted])

    def on_wait_over(self) -> None:
        """Tell the other workers that the wait is over."""
        if self._worker_end is not None:
            self._worker_end.tell("wait_over", "")

    def wanted_by(self, exporters: Sequence[ExporterIdentity]) -> str:
        """Ask xdist's controller process for a worker that has waited too long."""
        boards = [(exporter.name, dict(exporter.labels or {})) for exporter in exporters]
        return self._worker_end.wanted_by(boards) if self._worker_end is not None else ""

    def on_reserved(self, lease: str) -> None:
        """Tell xdist's controller process not to release this lease."""
        if self._worker_end is not None:
            self._worker_end.tell("keep", lease)

    def on_no_device(self, wanted: str, error: LeaseTimeout) -> None:
        """Skip the test if that is wished for."""
        if self.skips is not None:
            self.skips.skip(wanted, error)

    def on_loss(self, role: str, loss: DeviceError) -> None:
        """End the test that the loss leaves waiting, unless a person is looking into it."""
        item, health = self._test.item, self.healths.get(role)

        def is_waiting() -> bool:
            is_the_same = self._test.item is item and self.healths.get(role) is health
            return is_the_same and self._test.is_interruptible

        if item is not None and role in devices_of(item).roles:
            self._interrupter.interrupt(loss, is_waiting)

    def on_start(self) -> None:
        """Take over the signal by which a blocked test is ended; let the process that prints know of this one."""
        if self._worker_end is not None:
            self._worker_end.tell("hello", str(os.getpid()))
        self._interrupter.install()

    def on_end(self) -> None:
        """Give the signal back."""
        self._interrupter.restore()

    def on_hook_failure(self, failure: str) -> None:
        """Keep the failure for the end of the run."""
        self._terminal.add_failure("hook_failure", failure)

    def on_failure(self, failure: str) -> None:
        """Keep the failure for the end of the run."""
        self._terminal.add_failure("failure", failure)

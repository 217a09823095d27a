"""What happens to a lease, told as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing.lease_request import LeaseRequest, Wanted


class Events:
    """Hear what happens to leases and devices; this one listens to nothing, so that sources can be used alone."""

    def on_start(self) -> None:
        """Prepare for the first device."""

    def on_end(self) -> None:
        """Note that there will be no more devices."""

    def on_wait(self, wanted: Sequence[Wanted]) -> None:
        """Note that these devices are waited for, all of them."""

    def on_wait_over(self) -> None:
        """Note that they are not waited for any more, whatever came of it."""

    def wanted_by(self, exporters: Sequence[ExporterIdentity]) -> str:  # noqa: ARG002 - nobody else is known here
        """Return who else of this run has waited too long for one of these exporters; empty if nobody has."""
        return ""

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Change `request` before it is sent, or leave it."""

    def on_acquired(self, lease: Lease, role: str) -> None:
        """Note that the lease is Ready and its exporter too."""

    def on_ready(self, device: Device) -> None:
        """Prepare the connected device, once per lease."""

    def on_release(self, device: Device) -> None:
        """Put the device away before its board goes back."""

    def on_released(self, lease: Lease, role: str) -> None:
        """Note that the lease has ended."""

    def on_reserved(self, lease: str) -> None:
        """Note that nobody is to give the lease back: it is left to people."""

    def on_no_device(self, wanted: str, error: LeaseTimeout) -> None:
        """Note that all that match are taken or offline; what this raises, the test gets instead of `error`."""

    def on_loss(self, role: str, loss: DeviceError) -> None:
        """Note that the device was lost; called from another thread than the test's."""

    def say(self, line: str) -> None:
        """Show a line to the people who wait."""

    def on_hook_failure(self, failure: str) -> None:
        """Note that an exporter's afterLease hook failed: the next lease of its board may suffer from it."""

    def on_failure(self, failure: str) -> None:
        """Keep what a person must do by hand, such as releasing a lease."""

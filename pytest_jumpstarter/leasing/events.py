"""`Events`: receives what happens to leases and devices, when it happens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.device.transfers import Transfer
    from pytest_jumpstarter.errors import DeviceError, LeaseTimeout
    from pytest_jumpstarter.leasing.lease_request import LeaseRequest, Wanted


def _ignore(line: str) -> None:
    """Show nothing."""


class Events:
    """Base class of listeners for leases and devices; it ignores all events, so that sources can be used alone."""

    is_quiet = False
    """Whether the user wants few lines (`-q`): then no survey of the lab is made during a wait."""

    say: Callable[[str], None] = staticmethod(_ignore)
    """Shows a line to the user."""

    def say_once(self, line: str) -> None:
        """Show a line that is about the lab, so that one process of a run shows it once."""
        self.say(line)

    def on_start(self) -> None:
        """Prepare for the first device."""

    def on_end(self) -> None:
        """Clean up after the last device."""

    def on_wait(self, wanted: Sequence[Wanted]) -> None:
        """Handle the start of a wait for all of these devices."""

    def on_wait_over(self) -> None:
        """Handle the end of the wait, with or without success."""

    def seconds_of_tests(self, wanted: Wanted) -> float:  # noqa: ARG002 - tests are not known here
        """Return how long the tests that wait for this device took in earlier runs; 0 if that is not known."""
        return 0.0

    def wanted_by(self, exporters: Sequence[ExporterIdentity]) -> str:  # noqa: ARG002 - other workers are not known here
        """Return the worker of this run that has waited too long for one of these exporters; empty if there is none."""
        return ""

    def refused_exporters(self) -> Collection[str]:
        """Return the exporters that an access policy refused to others of this run."""
        return ()

    def on_refused(self, exporters: Collection[str]) -> None:
        """Handle that an access policy refuses these exporters to this client."""

    def on_request(self, request: LeaseRequest, role: str) -> None:
        """Change `request`, if need be, before it is sent."""

    def on_acquired(self, lease: Lease, role: str) -> None:
        """Handle that the lease and its exporter are ready."""

    def on_ready(self, device: Device) -> None:
        """Handle that the device is connected; called once for each lease."""

    def on_release(self, device: Device) -> None:
        """Handle that the device is about to be released."""

    def on_released(self, lease: Lease, role: str) -> None:
        """Handle that the lease has ended."""

    def on_reserved(self, lease: str) -> None:
        """Handle that the lease must not be released, because it is kept for people."""

    def on_no_device(self, wanted: str, error: LeaseTimeout) -> None:
        """Handle that all matching exporters are in use or offline; if this raises, the test gets that, not `error`."""

    def on_motd(self, motd: str) -> None:
        """Handle the message of the day of an exporter; called for each connection."""

    def on_loss(self, role: str, loss: DeviceError) -> None:
        """Handle the loss of the device; not called from the test's thread."""

    def on_hook_failure(self, role: str, lease: str, failure: str) -> None:
        """
        Handle a beforeLease hook that failed with `onFailure: warn`, or an afterLease hook that failed.

        Args:
            role: The role of the device.
            lease: The lease; empty if there is none.
            failure: What the exporter says, and the last lines of the hook's output where they are known.
        """

    def on_transfer(self, role: str, transfer: Transfer) -> None:
        """Handle the start of a transfer to or from the device; not always called from the test's thread."""

    def on_failure(self, failure: str) -> None:
        """Handle a failure that must be corrected by hand, such as a lease that was not released."""

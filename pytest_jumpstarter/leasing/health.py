"""Whether a device is still reachable: this separates faults of the lab from faults of the product."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import DeviceError, DeviceUnreachable, JumpstarterError

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.tunnel import Tunnel
    from pytest_jumpstarter.leasing.lease import ManagedLease

CONFIRM_TIMEOUT = 5.0
"""Seconds in which a suspected loss must be confirmed; otherwise it does not count."""

LOOK_INTERVAL = 2.0
"""Seconds between two checks of lease and exporter by the keeper; less if the time to live is short."""


class Health:
    """
    The health of one role's device, from the moment its lease is ready.

    Args:
        managed: The lease; None if there is none.

    Attributes:
        device: The device; None before it is connected.
        loss: Why the device is lost for good; None if it is not.
        unanswered: When the exporter last did not answer while a call waited for it, by `time.monotonic()`.
        retired: When the device was released, by `time.monotonic()`; infinity before that.
    """

    def __init__(self, managed: ManagedLease | None = None) -> None:
        self.device: Device | None = None
        self.loss: DeviceError | None = None
        self.unanswered = -math.inf
        self.retired = math.inf
        self._managed = managed
        self._connection: ExporterConnection | None = None
        self._tunnel: Tunnel | None = None
        self._controller_error: JumpstarterError | None = None

    @property
    def is_retired(self) -> bool:
        """Whether the device was released; the next device of its role has another lease."""
        return self.retired < math.inf

    def is_of(self, managed: ManagedLease) -> bool:
        """Return whether this is the health of the device under this lease."""
        return self._managed is managed

    def attach(self, device: Device, connection: ExporterConnection, tunnel: Tunnel | None = None) -> None:
        """
        Watch `device` from now on.

        Raises:
            DeviceError: The device was lost while it was being connected.
        """
        self.device, self._connection, self._tunnel = device, connection, tunnel
        if self.loss is not None:
            device.lose(self.loss)
            raise self.loss

    def lose(self, loss: DeviceError) -> None:
        """Record the loss with its time, and close the tunnel, so that a call that waits for the board ends."""
        if self.loss is not None:
            return
        self.loss = self._named(type(loss)(f"{loss} (seen at {time.strftime('%H:%M:%S')})"))
        if self.device is not None:
            self.device.lose(self.loss)
        if self._tunnel is not None and self._connection is not None:
            with suppress(RuntimeError, OSError):  # the loop has ended, or the system is out of resources
                self._connection.portal.start_task_soon(self._tunnel.close)

    def retire(self) -> None:
        """
        Check lease and exporter for the last time, because the board is about to be released; `loss` keeps the result.

        A teardown that failed because the device was lost is judged after this.
        """
        if self.loss is None and (loss := self._ask_controller()) is not None:
            self.lose(loss)
        self._managed = None
        self._connection = None
        self.retired = time.monotonic()

    def loss_during(self, began: float) -> DeviceError | None:
        """
        Return why the device was lost for good by the end of a phase of a test; None if it was not.

        After a short phase nothing is checked, unless a connection broke or a call failed during it. After a longer one
        lease and exporter are checked once, unless the keeper has done so since the phase began.

        Args:
            began: When the phase began, by `time.monotonic()`.
        """
        if self.loss is not None or self.is_retired:
            return self.loss
        if self._is_suspected_since(began):
            self._confirm()
        elif time.monotonic() - began > LOOK_INTERVAL:
            self._check_once(began)
        return self.loss

    def fault_since(self, start: float) -> DeviceError | None:
        """
        Return the fault of the lab that may have caused a failed call; None if there is none.

        The lab controller is asked about lease and exporter, then the exporter itself through the tunnel. A connection
        that broke since `start` is a fault even if the next one works.

        Args:
            start: When the call began, by `time.monotonic()`; infinity if only the present state counts.
        """
        if self.loss is None:
            temporary = self._confirm()
            if temporary is not None:
                return self._named(temporary)
        if self.loss is None and self._tunnel is not None and self._tunnel.last_break > start:
            return self._named(DeviceUnreachable(f"the connection to {self.name} broke: {self._tunnel.last_reason}"))
        return self.loss or self._silence_since(start)

    def _silence_since(self, start: float) -> DeviceError | None:
        """Return the fault if exporter or lab controller did not answer a question of ours since `start`."""
        silent = {self.name: self.unanswered, "the lab controller": getattr(self._managed, "unanswered", -math.inf)}
        who, moment = max(silent.items(), key=lambda each: each[1])
        if moment <= start:
            return None
        return self._named(DeviceUnreachable(f"{who} did not answer {time.monotonic() - moment:.0f}s ago"))

    def _is_suspected_since(self, began: float) -> bool:
        """Return whether the connection broke or a call failed; without a tunnel the connection may also be idle."""
        if self._connection is None:
            return False
        is_broken = self._tunnel.last_break > began if self._tunnel is not None else not self._connection.is_ready
        return is_broken or self._connection.last_failure > began

    def _check_once(self, began: float) -> None:
        """Check lease and exporter, unless the keeper just did; without a lease, check the exporter itself."""
        if self._managed is None:
            self._confirm()
        elif self._managed.last_check < began and (loss := self._ask_controller()) is not None:
            self.lose(loss)

    def _confirm(self) -> DeviceError | None:
        """
        Find out whether the device is lost for good, and record the loss.

        If the exporter cannot be reached, and neither can the lab controller or the router, the device is not lost:
        they may come back, and the lease is valid for its time to live. Then return that error; otherwise None.
        """
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        loss = self._ask_controller()
        if loss is None and self._connection is not None:
            loss = self._connection.probe(max(1.0, deadline - time.monotonic()), exporter=self.name)
            is_said = self._connection.router_trouble
            if isinstance(loss, DeviceUnreachable) and self._tunnel and self._tunnel.last_reason and not is_said:
                loss = DeviceUnreachable(f"{loss} ({self._tunnel.last_reason})")
        if isinstance(loss, DeviceUnreachable) and self._connection is not None and self._connection.router_trouble:
            return loss
        if isinstance(loss, DeviceUnreachable) and self._controller_error is not None:
            return DeviceUnreachable(f"{loss}, and the lab controller does not tell why: {self._controller_error}")
        if loss is not None:
            self.lose(loss)
        return None

    def _named(self, error: DeviceError) -> DeviceError:
        """Add exporter and lease to `error`, and return it."""
        if self.device is not None:
            error.exporter = self.device.exporter.name
            error.lease = self.device.lease.name if self.device.lease is not None else ""
        return error

    @property
    def name(self) -> str:
        """Words for its exporter."""
        known = self.device is not None and self.device.exporter.name
        return f"exporter {known}" if known else "the exporter"

    def _ask_controller(self) -> DeviceError | None:
        self._controller_error = None
        if self._managed is None:
            return None
        try:
            return self._managed.look(CONFIRM_TIMEOUT / 4)  # for each of its two calls
        except JumpstarterError as exc:
            self._controller_error = exc  # then the exporter itself is asked
            return None

"""Whether a device is still reachable: this separates faults of the lab from faults of the product."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import DeviceError, DeviceUnreachable, JumpstarterError
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.tunnel import Tunnel
    from pytest_jumpstarter.leasing.lease import ManagedLease

CONFIRM_TIMEOUT = 5.0
"""Seconds in which a suspected loss must be confirmed; otherwise it does not count."""

LATE = 1.0
"""Seconds after which an answer of the exporter is so late that a call may have failed for the same reason."""

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
        unanswered: When the exporter last did not answer a question, or answered late, by `time.monotonic()`.
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
        self._ttl = math.inf
        self._confirmed = math.inf  # when the question was asked that showed last that all is well
        self._next_question = -math.inf  # after one that was not answered, when a test may ask again
        self._asked = math.inf  # when the ping was sent that is under way
        self._silent_since = math.inf  # when the first question of those was asked that are all unanswered

    @property
    def is_retired(self) -> bool:
        """Whether the device was released; the next device of its role has another lease."""
        return self.retired < math.inf

    def is_of(self, managed: ManagedLease) -> bool:
        """Return whether this is the health of the device under this lease."""
        return self._managed is managed

    def attach(
        self, device: Device, connection: ExporterConnection, tunnel: Tunnel | None = None, *, ttl: float = math.inf
    ) -> None:
        """
        Watch `device` from now on.

        Args:
            device: The device.
            connection: The connection to its exporter.
            tunnel: The tunnel that the connection goes through; None if there is none.
            ttl: Seconds without any answer after which the device is lost.

        Raises:
            DeviceError: The device was lost while it was being connected.
        """
        self.device, self._connection, self._tunnel, self._ttl = device, connection, tunnel, ttl
        self._confirmed = real_time.monotonic()
        if self.loss is not None:
            connected(device).lose(self.loss)
            raise self.loss

    def lose(self, loss: DeviceError) -> None:
        """Record the loss with its time, and close the connection, so that a call that waits for the board ends."""
        if self.loss is not None:
            return
        self.loss = self._named(type(loss)(f"{loss} (seen at {real_time.clock()})"))
        if self.device is not None:
            connected(self.device).lose(self.loss)
        if self._connection is not None:
            with suppress(RuntimeError, OSError):  # the loop has ended, or the system is out of resources
                self._connection.break_off()

    def retire(self) -> None:
        """
        Check lease and exporter for the last time, because the board is about to be released; `loss` keeps the result.

        A teardown that failed because the device was lost is judged after this.
        """
        if self.loss is None and (loss := self._ask_controller()) is not None:
            self.lose(loss)
        self._managed = None
        self._connection = None
        self.retired = real_time.monotonic()

    def current_loss(self) -> DeviceError | None:
        """
        Return why the device is lost for good, before a test gets it; None if it is not.

        Nothing is asked, unless the connection broke or a call failed since the device was last known to be well: an
        exporter may have been started again between two tests.
        """
        is_suspected = self.loss is None and not self.is_retired and self._is_suspected_since(self._confirmed)
        if is_suspected and real_time.monotonic() > self._next_question and self._confirm() is not None:
            # A test looks its fixtures up one after another, and each would ask again.
            self._next_question = real_time.monotonic() + LOOK_INTERVAL
        return self.loss

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
        elif real_time.monotonic() - began > LOOK_INTERVAL:
            self._check_once(began)
        return self.loss

    @property
    def is_silent(self) -> bool:
        """Whether the exporter did not answer the last question."""
        return self._silent_since < math.inf

    def ping(self, timeout: float) -> bool:
        """Ask the exporter whether it is there, and return whether it answers within `timeout` seconds."""
        assert self._connection is not None
        began = self._asked = real_time.monotonic()
        has_answered = self._connection.ping(timeout)
        self._note(began, has_answered=has_answered)
        self._asked = math.inf
        return has_answered

    def loss_by_silence(self) -> DeviceError | None:
        """Return the loss if the exporter has answered nothing for its time to live; else None."""
        silence = real_time.monotonic() - self._silent_since
        if silence < self._ttl:
            return None
        return DeviceUnreachable(f"{self.name} has answered nothing for {format_duration(silence)}")

    def _note(self, asked: float, *, has_answered: bool) -> None:
        """Record whether the exporter answered the question that was asked at this time."""
        now = real_time.monotonic()
        if self._connection is not None and self._connection.heard > self.unanswered:
            self._silent_since = math.inf
        if not has_answered or now - asked > LATE:
            self.unanswered = now
        self._silent_since = math.inf if has_answered else min(self._silent_since, asked)

    def fault_since(self, start: float, *, was_answered: bool = False) -> DeviceError | None:
        """
        Return the fault of the lab that may have caused a failed call; None if there is none.

        The lab controller is asked about lease and exporter, then the exporter itself through the tunnel. A connection
        that broke since `start` is a fault even if the next one works.

        Args:
            start: When the call began, by `time.monotonic()`; infinity if only the present state counts.
            was_answered: Whether the error is an answer of the exporter: then it must have been silent before that.
        """
        silence = self._silence_since(start)
        if self.loss is None:
            temporary = self._confirm()
            if temporary is not None:
                return self._named(temporary)
        if self.loss is None and self._tunnel is not None and self._tunnel.last_break > start:
            return self._named(DeviceUnreachable(f"the connection to {self.name} broke: {self._tunnel.last_reason}"))
        return self.loss or (silence if was_answered else self._silence_since(start))

    def _silence_since(self, start: float) -> DeviceError | None:
        """Return the fault if the exporter did not answer a question since `start`, or not in time."""
        now = real_time.monotonic()
        moment = now if now - self._asked > LATE else self.unanswered
        if moment <= start:
            return None
        shown = real_time.clock(real_time.time() - (now - moment))
        return self._named(DeviceUnreachable(f"{self.name} did not answer in time (at {shown})"))

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

        If the exporter does not answer, the device is not lost while something may come back within the time to live:
        the lab controller, the router, or the exporter, as long as its connection stands. Then return that error;
        otherwise None.
        """
        began = real_time.monotonic()
        loss = self._ask_controller()
        if loss is None and self._connection is not None:
            loss = self._probe(self._connection, max(1.0, began + CONFIRM_TIMEOUT - real_time.monotonic()))
            if isinstance(loss, DeviceUnreachable) and self._may_come_back(self._connection):
                return loss
        if loss is not None:
            self.lose(loss)
        else:
            self._confirmed = began
        return None

    def _probe(self, connection: ExporterConnection, timeout: float) -> DeviceError | None:
        """Ask the exporter whether it is there and was not restarted; return what is wrong, or None."""
        asked = real_time.monotonic()
        loss = connection.probe(timeout, exporter=self.name)
        is_silent = isinstance(loss, DeviceUnreachable)
        self._note(asked, has_answered=not is_silent)
        if not is_silent:
            return loss
        reason = self._tunnel.last_reason if self._tunnel is not None and not connection.router_trouble else ""
        words = f"{loss} ({reason})" if reason else str(loss)
        if self._controller_error is not None:
            words += f", and the lab controller does not tell why: {self._controller_error}"
        return DeviceUnreachable(words)

    def _may_come_back(self, connection: ExporterConnection) -> bool:
        """Return whether an exporter that does not answer may do so within the time to live."""
        if connection.router_trouble or self._controller_error is not None:
            return True
        return connection.is_ready and self.loss_by_silence() is None

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

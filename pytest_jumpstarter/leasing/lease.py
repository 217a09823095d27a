"""`ManagedLease`: a lease in use by this process, created by it or by somebody else."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1 import Client, Exporter, Lease, Route, channel_options
from pytest_jumpstarter.device import ExporterIdentity
from pytest_jumpstarter.errors import (
    DeviceError,
    ExporterOffline,
    HookFailed,
    LeaseLost,
    NotFound,
    RequestError,
)
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.connect import Access, Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.exporter_hooks import hook_warning, leave_release_to_exporter, offline
from pytest_jumpstarter.leasing.identity import check_lease
from pytest_jumpstarter.leasing.lease_request import DEFAULT_TTL, Wanted
from pytest_jumpstarter.leasing.waiting import Waiter, loss_of

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.drivers import Drivers
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.tunnel import Tunnel

EXTEND_TIMEOUT = 5.0
"""Seconds for the lab controller to return a lease, or to extend it."""


class ManagedLease(Access):
    """
    Base class of leases: waits for the lease and its exporter, dials it, and checks it.

    Args:
        events: Receives the lines for the user.
        connector: Warmed up while the lease is pending; it reads the exporter's log while a beforeLease hook runs.
        ttl: Seconds that the lease lasts without being extended.
        since: The start of the time that `wanted.wait` limits, by `time.monotonic()`; None: it starts with the first
            wait.

    Attributes:
        name: The name of the lease.
        wanted: What the role needs.
        lease: The lease as last seen; None before `obtain`.
        exporter: Its exporter, when it is ready; None before `prepare`.
        log: The exporter's log, if it is being read: since the beforeLease hook, or since the device is connected.
        failure: Why the release failed; empty if it did not.
        extension_failure: Why the last extension failed; empty if it did not.
        is_ours: Whether this process created the lease; only then is it extended and released.
        is_reserved: Whether it is kept for people: not extended any more and not released.
        last_check: When the lab controller last returned lease and exporter, by `time.monotonic()`.
        last_failure: When a check last failed, by `time.monotonic()`.
    """

    is_ours: bool

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        name: str,
        *,
        events: Events,
        connector: Connector,
        ttl: float = DEFAULT_TTL,
        since: float | None = None,
    ) -> None:
        self.name = name
        self.wanted = wanted
        self.exporter: Exporter | None = None
        self.failure = self.extension_failure = ""
        self.last_check = self.last_failure = -math.inf
        self._client = client
        self._waiter = Waiter(client, wanted, events, ttl=ttl, since=since)
        self._connector = connector
        self._ready_since = 0.0

    @property
    def has_lost_tags(self) -> bool:
        """Whether its tags were lost."""
        return False

    @property
    def identity(self) -> ExporterIdentity:
        """The name and labels of its exporter."""
        assert self.exporter is not None
        return ExporterIdentity(name=self.exporter.name, labels=self.exporter.labels)

    @property
    def end_reason(self) -> str:
        """Why the device can no longer be used, for messages."""
        if self.is_reserved:
            return f"lease {self.name} is kept for people (--jmp-hold-on-failure)"
        return f"lease {self.name} was released" if self.is_ours else "its fixture was torn down"

    @abstractmethod
    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Wait until the lease is Ready; return whether it is after `patience` seconds. If not, call this again.

        On any error a lease of this process is released before the error is raised.

        Raises:
            ConfigError, DeviceError, RequestError: See `Waiter.until_ready`.
        """

    def prepare(self) -> None:
        """
        Wait until the exporter is ready, too; the lease must be Ready. Errors are handled as in `obtain`.

        Raises:
            HookFailed, ExporterOffline, LeaseLost, DeviceUnreachable, RequestError: See `Waiter.until_exporter_ready`.
        """
        assert self.lease is not None
        with self._released_on_error():
            self.exporter = self._when_exporter_ready(self.lease)
            self.last_check = real_time.monotonic()

    def _when_exporter_ready(self, lease: Lease) -> Exporter:
        return self._waiter.until_exporter_ready(lease, self._listen_to_hook)

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a tunnel to the exporter, and return the driver clients over it."""
        self.tunnel = self._new_tunnel()
        return connection.open_tunnel(self.tunnel, exporter=f"exporter {self.identity.name}")

    def open_to_others(self, portal: BlockingPortal, stack: ExitStack) -> Mapping[str, str]:
        """Open another tunnel, so that a process that breaks its connection does not break that of the device."""
        tunnel = self._new_tunnel()
        path = portal.call(partial(tunnel.open, is_dialed=False))
        stack.callback(portal.call, tunnel.close)
        return {"JUMPSTARTER_HOST": path}

    def await_ready(self, connection: ExporterConnection, log: ExporterLog | None) -> str:  # noqa: ARG002
        """Return the warning of the beforeLease hook, which `prepare` has waited for."""
        assert self.exporter is not None
        warning = hook_warning(self.exporter.status_message)
        return warning and f"exporter {self.exporter.name}: {warning}"

    def dial(self, stopped: threading.Event) -> Route:
        """Return a route to the exporter for one stream; see `Waiter.dial`."""
        return self._waiter.dial(self.name, stopped)

    def look(self, timeout: float, *, with_exporter: bool = True) -> DeviceError | None:
        """
        Ask the lab controller whether lease and exporter still exist; return why the device is lost, or None.

        Args:
            timeout: Seconds for each of the two requests.
            with_exporter: Whether to ask for the exporter too.

        Raises:
            RequestError: The lab controller does not answer, or refuses this client.
        Source: jumpstarter.client.v1.ClientService GetLease, GetExporter
        """
        began = real_time.monotonic()
        try:
            self.lease = self._client.get_lease(self.name, timeout=timeout)
            late = f"; it could not be extended: {self.extension_failure}" if self.extension_failure else ""
            loss: DeviceError | None = loss_of(self.lease, self._client.name, late)
            if loss is None and with_exporter:
                loss = self._loss_of_exporter(timeout)
                self.last_check = began
        except NotFound as exc:
            return LeaseLost(f"lease {self.name} was deleted: {exc}")
        except RequestError:
            self.last_failure = real_time.monotonic()
            raise
        return loss

    def _loss_of_exporter(self, timeout: float) -> ExporterOffline | None:
        name = self.exporter.name if self.exporter is not None else self.lease and self.lease.exporter
        if not name:
            return None
        try:
            exporter = self._client.get_exporter(name, timeout=timeout)
        except NotFound as exc:
            return ExporterOffline(f"exporter {name} was removed from the lab: {exc}")
        if exporter.status == "OFFLINE" or not exporter.online:
            return offline(exporter)
        return None

    def extend(self, timeout: float) -> None:
        """Extend the lease, if this process created it."""

    def reserve(self, duration: float) -> Reservation:  # noqa: ARG002 - only `OwnLease` extends it
        """
        Keep the lease for people; if this process created it, for `duration` seconds from now.

        Raises:
            LeaseLost: It has ended.
            RequestError: The lab controller cannot be asked; the lease is unchanged.
        """
        left = self._left()
        self.is_reserved = True
        return self._reservation(left, "not extended, since it is not a lease of this run")

    def _left(self) -> float:
        """Ask the lab controller for the lease; return the seconds that are left of it."""
        self.lease = self._client.get_lease(self.name, timeout=EXTEND_TIMEOUT)
        if self.lease.is_ended:
            raise LeaseLost(f"lease {self.name} has ended")
        return (self.lease.duration or 0.0) - self._leased_for()

    def _reservation(self, duration: float, note: str) -> Reservation:
        assert self.exporter is not None
        return Reservation(lease=self.name, exporter=self.exporter.name, duration=duration, note=note)

    def _leased_for(self) -> float:
        """Return the seconds since the lease became Ready, by the lab controller's clock if it reports them."""
        if self.lease is not None and self.lease.effective_duration is not None:
            return self.lease.effective_duration
        return real_time.monotonic() - self._ready_since

    def release(self, *, is_urgent: bool = False) -> None:
        """Release the lease, if this process created it."""

    def after_hook(self, stopped: threading.Event) -> str:
        """Wait for the exporter's afterLease hook, and return why it failed; see `Waiter.until_cleaned_up`."""
        failure = self._waiter.until_cleaned_up(self.exporter.name, stopped) if self.exporter is not None else ""
        return failure + (self.log.last_words("after_lease_hook") if failure and self.log is not None else "")

    def _until_ready(self, patience: float) -> bool:
        lease = self._waiter.until_ready(self.name, patience=patience)
        if lease is None:
            return False
        self.lease, self._ready_since = lease, real_time.monotonic()
        return True

    @contextmanager
    def _released_on_error(self) -> Iterator[None]:
        """Release the lease on any error, including an interrupt, and name it in the error."""
        try:
            yield
        except BaseException as exc:
            if isinstance(exc, DeviceError):
                exc.lease, exc.exporter = self.name, (self.lease and self.lease.exporter) or ""
            try:
                if isinstance(exc, HookFailed):
                    self._after_failed_hook(exc)
            finally:
                self.release()
                if self.log is not None:
                    self.log.stop()
            raise

    def _after_failed_hook(self, exc: HookFailed) -> None:
        if self.log is not None:
            exc.args = (f"{exc}{self.log.last_words()}",)
        leave_release_to_exporter(exc, self._client, self.name)

    def _listen_to_hook(self) -> None:
        self.log = self._connector.listen_to_hook(self.wanted.role, self._new_tunnel())

    def _new_tunnel(self) -> Tunnel:
        from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel

        options = partial(channel_options, grpc_options=self._client.grpc_options)
        return Tunnel(self.dial, RouterChannels(self._client.tls.credentials, options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """
    A lease that is kept for people: this process does not extend or release it any more.

    Attributes:
        lease: The name of the lease.
        exporter: The name of its exporter.
        duration: Seconds that are left of it.
        note: Why it does not last for the requested time; empty if it does.
    """

    lease: str
    exporter: str
    duration: float
    note: str = ""


class AdoptedLease(ManagedLease):
    """An existing lease that somebody else created (`--jmp-lease`, `JMP_LEASE`): used, never extended or released."""

    is_ours = False

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        *,
        events: Events,
        connector: Connector,
        since: float | None = None,
    ) -> None:
        super().__init__(client, wanted, str(wanted.lease), events=events, connector=connector, since=since)

    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Check that this client can use the lease, and wait until it is Ready.

        Raises:
            ConfigError: See `check_lease`.
            LeaseTimeout, LeaseLost: See `Waiter.until_ready`.
        """
        check_lease(self._client, self.wanted)
        self._connector.warm_up()
        with self._released_on_error():
            return self._until_ready(patience)

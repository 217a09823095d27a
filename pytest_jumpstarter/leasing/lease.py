"""`ManagedLease`: a lease in our hands, whoever made it."""

from __future__ import annotations

import math
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1 import Client, Exporter, Route, channel_options
from pytest_jumpstarter.device import ExporterIdentity
from pytest_jumpstarter.errors import (
    DeviceError,
    ExporterOffline,
    HookFailed,
    LeaseLost,
    NotFound,
)
from pytest_jumpstarter.leasing.connect import Access, Connector
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.identity import check_lease
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.waiting import Waiter

if TYPE_CHECKING:
    from pytest_jumpstarter.device.drivers import Drivers
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.tunnel import Tunnel

EXTEND_TIMEOUT = 5.0
"""Seconds for the lab controller to tell of a lease, or to extend it."""


class ManagedLease(Access):
    """
    What both kinds of lease have in common: they are waited for, dialled and looked after.

    Args:
        events: Told what people are to know.
        connector: Warmed up while the lease is pending; it reads the exporter's log while a beforeLease hook runs.
        since: When the wait began by which `wanted.wait` counts, by `time.monotonic()`; None for the first wait.

    Attributes:
        name: The lease's name.
        wanted: What it is for.
        lease: The lease as last seen; None before `obtain`.
        exporter: Its exporter, ready; None before `prepare`.
        log: What the exporter says, if it is read already: since its beforeLease hook.
        failure: Why the lease could not be given back; empty if all is well.
        is_reserved: Whether it is left to people now: not extended and not given back.
        looked: When the lab controller told last of lease and exporter, by `time.monotonic()`.
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
        since: float | None = None,
    ) -> None:
        self.name = name
        self.wanted = wanted
        self.exporter: Exporter | None = None
        self.failure = ""
        self.looked = -math.inf
        self._client = client
        self._waiter = Waiter(client, wanted, events.say, since=since)
        self._connector = connector
        self._ready_since = 0.0

    @property
    def has_lost_tags(self) -> bool:
        """Whether it was asked for with tags and has none."""
        return False

    @property
    def identity(self) -> ExporterIdentity:
        """Which exporter it has."""
        assert self.exporter is not None
        return ExporterIdentity(name=self.exporter.name, labels=self.exporter.labels)

    @property
    def ending(self) -> str:
        """Words for why a device can no longer be used."""
        return f"lease {self.name} was {'left to people' if self.is_reserved else 'given back'}"

    @abstractmethod
    def obtain(self, *, patience: float = math.inf) -> bool:
        """
        Wait until the lease is Ready; tell whether it is after `patience` seconds, and may be called again if not.

        On any failure the lease is given back, if it is ours, before the error goes on.

        Raises:
            ConfigError, DeviceError, RequestError: See `Waiter.until_ready`.
        """

    def prepare(self) -> None:
        """
        Wait until the exporter of a lease that is Ready is ready, too; on failure as `obtain`.

        Raises:
            HookFailed, ExporterOffline, LeaseLost, DeviceUnreachable, RequestError: See `Waiter.until_exporter_ready`.
        """
        assert self.lease is not None
        with self._or_given_back():
            self.exporter = self._waiter.until_exporter_ready(self.lease, self._listen_to_hook)
            self.looked = time.monotonic()

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a tunnel to the exporter, and return the driver clients over it."""
        self.tunnel = self._new_tunnel()
        return connection.open_tunnel(self.tunnel, exporter=f"exporter {self.identity.name}")

    def dial(self, stopped: threading.Event) -> Route:
        """Return a route to the exporter, good for one stream; see `Waiter.dial`."""
        return self._waiter.dial(self.name, stopped)

    def look(self, timeout: float) -> DeviceError | None:
        """
        Ask the lab controller whether lease and exporter are still there, and return what is wrong.

        Raises:
            TransportError: It does not answer within `timeout` seconds.
        Source: jumpstarter.client.v1.ClientService GetLease, GetExporter
        """
        began = time.monotonic()
        try:
            self.lease = self._client.get_lease(self.name, timeout=timeout)
            exporter = self._client.get_exporter(str(self.lease.exporter), timeout=timeout)
        except NotFound as exc:
            return LeaseLost(f"lease {self.name} is gone from the lab controller: {exc}")
        self.looked = began
        if self.lease.is_ended:
            why = f": {self.lease.refusal.message} ({self.lease.refusal.reason})" if self.lease.refusal else ""
            return LeaseLost(f"lease {self.name} has ended{why}")
        if self.lease.client != self._client.name:
            return LeaseLost(f"lease {self.name} was transferred to client {self.lease.client!r}")
        if exporter.status == "OFFLINE" or not exporter.online:
            return ExporterOffline(
                f"exporter {exporter.name} is offline: {exporter.status_message or 'no reason given'}"
            )
        return None

    def extend(self, timeout: float) -> None:
        """Make the lease last longer, if it is ours to extend."""

    def reserve(self, duration: float) -> Reservation:  # noqa: ARG002 - what is not ours is left as it is
        """
        Leave the lease to people, for `duration` seconds from now if that is ours to say.

        Raises:
            LeaseLost: It has ended.
            RequestError: The lab controller cannot be asked; the lease is as it was.
        """
        left = self._left()
        self.is_reserved = True
        return self._reservation(left, "not extended, since it is not a lease of this run")

    def _left(self) -> float:
        """Ask how many seconds the lease has left."""
        self.lease = self._client.get_lease(self.name, timeout=EXTEND_TIMEOUT)
        if self.lease.is_ended:
            raise LeaseLost(f"lease {self.name} has ended")
        return (self.lease.duration or 0.0) - self._held_for()

    def _reservation(self, duration: float, note: str) -> Reservation:
        assert self.exporter is not None
        return Reservation(lease=self.name, exporter=self.exporter.name, duration=duration, note=note)

    def _held_for(self) -> float:
        """Return the seconds since the lease is Ready: the lab controller's count, or ours where it has none."""
        if self.lease is not None and self.lease.effective_duration is not None:
            return self.lease.effective_duration
        return time.monotonic() - self._ready_since

    def release(self, *, confirm: bool = True) -> None:
        """Give the lease back, if it is ours to give."""

    def after_hook(self) -> str:
        """Wait for the exporter's afterLease hook, and return why it failed; see `Waiter.until_cleaned_up`."""
        return self._waiter.until_cleaned_up(self.exporter.name) if self.exporter is not None else ""

    def _until_ready(self, patience: float) -> bool:
        lease = self._waiter.until_ready(self.name, patience=patience)
        if lease is None:
            return False
        self.lease, self._ready_since = lease, time.monotonic()
        return True

    @contextmanager
    def _or_given_back(self) -> Iterator[None]:
        """Give the lease back if it cannot be had, an interrupt included, and name it in the error."""
        try:
            yield
        except BaseException as exc:
            if isinstance(exc, DeviceError):
                exc.lease, exc.exporter = self.name, (self.lease and self.lease.exporter) or ""
            if isinstance(exc, HookFailed) and self.log is not None:
                exc.args = (f"{exc}{self.log.last_words()}",)
            self.release()
            if self.log is not None:
                self.log.stop()
            raise

    def _listen_to_hook(self) -> None:
        self.log = self._connector.listen_to_hook(self.wanted.role, self._new_tunnel())

    def _new_tunnel(self) -> Tunnel:
        from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel

        options = partial(channel_options, grpc_options=self._client.grpc_options)
        return Tunnel(self.dial, RouterChannels(self._client.tls.credentials, options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """
    A lease that nobody of ours extends or gives back any more.

    Attributes:
        lease: Its name.
        exporter: Its exporter's name.
        duration: Seconds it lasts from now.
        note: Why this is not what was asked for; empty if it is.
    """

    lease: str
    exporter: str
    duration: float
    note: str = ""


class AdoptedLease(ManagedLease):
    """An existing lease that somebody made for us (`--jmp-lease`, `JMP_LEASE`): used, never extended or released."""

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
        Check that the lease is ours to use, and wait until it is Ready.

        Raises:
            ConfigError: See `check_lease`.
            LeaseTimeout, LeaseLost: See `Waiter.until_ready`.
        """
        check_lease(self._client, self.wanted)
        self._connector.warm_up()
        with self._or_given_back():
            return self._until_ready(patience)

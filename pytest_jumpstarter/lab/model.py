"""
The state of the lab: exporters, clients, leases and their conditions.

Times are seconds since the epoch, as floats; `wire.py` rounds them down to whole seconds, as Kubernetes stores them.
Nothing here knows gRPC, timers or tokens.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

from pytest_jumpstarter.selector import Selector

TAG_PREFIX = "metadata.jumpstarter.dev/"
OWN_PREFIX = "jumpstarter.dev/"
ENDED_LABEL = "jumpstarter.dev/lease-ended"


def _now() -> float:
    """Return the time; `time.time` is looked up at each call, because `faults.py` may replace it."""
    return time.time()


class Status(IntEnum):
    """An exporter's status, with the numbers of jumpstarter.v1.ExporterStatus."""

    UNSPECIFIED = 0
    OFFLINE = 1
    AVAILABLE = 2
    BEFORE_LEASE_HOOK = 3
    LEASE_READY = 4
    AFTER_LEASE_HOOK = 5
    BEFORE_LEASE_HOOK_FAILED = 6
    AFTER_LEASE_HOOK_FAILED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client."""

    namespace: str
    name: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def subject(self) -> str:
        """The subject of this client's tokens."""
        return f"client:{self.namespace}:{self.name}:{self.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """A message for the Status stream of an exporter."""

    is_leased: bool
    lease: str = ""
    client: str = ""


class StatusFeed:
    """The messages that must still be sent on one open Status stream, in order and without repetitions."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[LeaseView] = asyncio.Queue()
        self._last: LeaseView | None = None

    def put(self, view: LeaseView) -> None:
        """Queue `view`, unless it equals the one before."""
        if view != self._last:
            self._last = view
            self._queue.put_nowait(view)

    async def first(self, patience: float) -> LeaseView:
        """Wait for the first message; a lease within `patience` seconds replaces the message that there is none."""
        view = await self.get()
        if not view.is_leased:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    view = await self.get()
        return view

    async def get(self) -> LeaseView:
        """Wait for the next message."""
        return await self._queue.get()


class Exporter:
    """
    One exporter, as the controller sees it.

    Attributes:
        devices: The number of drivers that it registered; None while it is not registered.
        last_seen: The time of its last sign of life, by the loop's clock; None if there was none.
        lease: The lease to which it is assigned.
        was_told: Whether it has opened a Status stream before.
        has_seen_idle: Whether `leased=false` was sent to it since its last lease ended. Jumpstarter's exporter needs
            this before it can start another lease, so no lease is assigned before.
    """

    def __init__(self, namespace: str, name: str, labels: Mapping[str, str], *, is_enabled: bool = True) -> None:
        self.namespace = namespace
        self.name = name
        self.uid = str(uuid.uuid4())
        self.is_enabled = is_enabled
        self.labels = dict(labels)
        self._admin_labels = {key: value for key, value in labels.items() if not key.startswith(OWN_PREFIX)}
        self.devices: int | None = None
        self.status = Status.UNSPECIFIED
        self.status_message = "Never seen"
        self.last_seen: float | None = None
        self.lease: Lease | None = None
        self.was_told = False
        self.has_seen_idle = True
        self.feeds: list[StatusFeed] = []
        self.changed = asyncio.Event()

    @property
    def subject(self) -> str:
        """The subject of this exporter's tokens."""
        return f"exporter:{self.namespace}:{self.name}:{self.uid}"

    @property
    def is_online(self) -> bool:
        """Whether it was seen, did not unregister, and was not silent for too long."""
        return self.last_seen is not None and self.status is not Status.OFFLINE

    @property
    def is_assignable(self) -> bool:
        """Whether it has finished with its previous lease."""
        return self.has_seen_idle and self.status in (Status.AVAILABLE, Status.UNSPECIFIED)

    @property
    def view(self) -> LeaseView:
        """The message that its Status streams should send now."""
        if self.lease is None:
            return LeaseView(is_leased=False)
        return LeaseView(is_leased=True, lease=self.lease.name, client=self.lease.client)

    def register(self, labels: Mapping[str, str], devices: int) -> None:
        """Register it; only labels with Jumpstarter's prefix are taken, the others come from the lab file."""
        own = {key: value for key, value in labels.items() if key.startswith(OWN_PREFIX)}
        self.labels = {**self._admin_labels, **own}
        self.devices = devices
        self.notify()

    def set_status(self, status: Status, message: str) -> None:
        """Set the status that it reported."""
        self.status, self.status_message = status, message
        self.notify()

    def notify(self) -> None:
        """Wake the tasks that wait for `changed`, and send news to its Status streams."""
        for feed in self.feeds:
            feed.put(self.view)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


@dataclass(slots=True, kw_only=True)
class Condition:
    """One condition of a lease, as in Kubernetes."""

    type: str
    status: bool
    reason: str
    message: str
    changed: float
    generation: int


@dataclass(slots=True, kw_only=True)
class Lease:
    """
    One lease: the request, and what happened.

    Attributes:
        selector: The selector; None if only the name of an exporter was requested.
        generation: The number of changes of the request, plus 1.
        exporter: The name of the assigned exporter; kept after the end.
        assigned: The time at which the exporter was assigned.
        ended: The time at which it ended; None while it is pending or active.
        next_look: The time at which it is looked at again while it is pending.
    """

    namespace: str
    name: str
    client: str
    selector: Selector | None
    exporter_name: str = ""
    duration: float | None = None
    begin_time: float | None = None
    end_time: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    allow_disabled: bool = False
    created: float = field(default_factory=_now)
    generation: int = 1
    is_released: bool = False
    exporter: str | None = None
    assigned: float | None = None
    ended: float | None = None
    next_look: float = 0.0
    conditions: dict[str, Condition] = field(default_factory=dict)

    @property
    def is_ended(self) -> bool:
        """Whether it has ended."""
        return self.ended is not None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the lease object, with which `ListLeases.filter` is compared."""
        own = self.selector.match_labels if self.selector else {}
        labels = {key: value for key, value in own.items() if not key.startswith(TAG_PREFIX)}
        labels |= {TAG_PREFIX + key: value for key, value in self.tags.items()}
        return labels | {ENDED_LABEL: "true"} if self.is_ended else labels

    @property
    def expiry(self) -> float | None:
        """The time at which it expires; None until an exporter is assigned."""
        if self.assigned is None:
            return None
        if self.end_time is not None:
            return self.end_time
        begin = self.assigned if self.begin_time is None else self.begin_time
        return begin + (self.duration or 0.0)

    def set_condition(self, kind: str, status: bool, reason: str, message: str) -> None:
        """Set a condition; its time only changes with its status."""
        known = self.conditions.get(kind)
        changed = known.changed if known and known.status == status else time.time()
        self.conditions[kind] = Condition(
            type=kind, status=status, reason=reason, message=message, changed=changed, generation=self.generation
        )

    def has_condition(self, kind: str) -> bool:
        """Return whether the condition `kind` is set and true."""
        return kind in self.conditions and self.conditions[kind].status


class Model:
    """All exporters, clients and leases of one lab; the name of a lease can never be used again."""

    def __init__(self, namespace: str, exporters: Iterable[Exporter], clients: Iterable[Client]) -> None:
        self.namespace = namespace
        self.exporters = {exporter.name: exporter for exporter in sorted(exporters, key=lambda it: it.name)}
        self.clients = {client.name: client for client in clients}
        self.leases: dict[str, Lease] = {}
        self.open_leases: dict[str, Lease] = {}

    def add(self, lease: Lease) -> None:
        """Add a new lease."""
        self.leases[lease.name] = lease
        self.open_leases[lease.name] = lease

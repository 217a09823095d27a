"""Exporters, leases and routes of the lab controller as Python objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from google.protobuf.message import Message
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.client.v1.secret import Secret, Token

_ENDING = ("Invalid", "Unsatisfiable")
_NANOS = 10**9
_LONGEST = 2**63 / _NANOS  # seconds; Go counts a duration in nanoseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (int((year - _EPOCH).total_seconds()) for year in (_EPOCH.replace(year=1), _EPOCH.replace(year=9999)))


def short_name(resource_name: str) -> str:
    """Return the last segment of `namespaces/NS/leases/NAME`; a short name is returned unchanged."""
    return resource_name.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a lease."""

    type: str
    status: bool
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} ({self.reason})" if self.reason else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One exporter of the lab."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    online: bool = False
    status: str = "UNSPECIFIED"
    """`AVAILABLE`, `LEASE_READY`, ...; `UNSPECIFIED` from exporters before 0.8."""
    status_message: str = ""
    enabled: bool | None = None
    """None if the lab controller does not say."""

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Return the exporter in an `Exporter` message."""
        namespace, name = _split(message.name)
        return cls(
            name=name,
            namespace=namespace,
            labels=dict(message.labels),
            online=message.online,
            status=_status(message.status),
            status_message=message.status_message,
            enabled=message.enabled if _has(message, "enabled") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    One lease, as it was when the lab controller was asked.

    `duration`, `begin_time` and `end_time` were requested; the values that begin with `effective_` are what happened.
    """

    name: str
    namespace: str
    client: str | None = None
    """The short name of the client that owns it."""
    exporter: str | None = None
    """The short name of the assigned exporter; None while the lease is pending."""
    selector: str = ""
    exporter_name: str | None = None
    """The short name of the requested exporter."""
    duration: float | None = None
    begin_time: datetime | None = None
    end_time: datetime | None = None
    effective_begin_time: datetime | None = None
    effective_end_time: datetime | None = None
    effective_duration: float | None = None
    conditions: tuple[Condition, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Return the lease in a `Lease` message."""
        namespace, name = _split(message.name)
        return cls(
            name=name,
            namespace=namespace,
            client=short_name(message.client) or None,
            exporter=short_name(message.exporter) or None,
            selector=message.selector,
            exporter_name=message.exporter_name or None,
            duration=_seconds(message, "duration"),
            begin_time=_time(message, "begin_time"),
            end_time=_time(message, "end_time"),
            effective_begin_time=_time(message, "effective_begin_time"),
            effective_end_time=_time(message, "effective_end_time"),
            effective_duration=_seconds(message, "effective_duration"),
            conditions=tuple(_conditions(message)),
            tags=dict(getattr(message, "tags", {})),
        )

    @property
    def resource_name(self) -> str:
        """The full name, `namespaces/NS/leases/NAME`."""
        return f"namespaces/{self.namespace}/leases/{self.name}"

    def condition(self, type: str) -> Condition | None:  # noqa: A002  (the field's own name)
        """Return the condition of a type; None if the lab controller did not set it."""
        return next((condition for condition in self.conditions if condition.type == type), None)

    @property
    def is_ready(self) -> bool:
        """Whether an exporter was assigned and the lease has not ended."""
        ready = self.condition("Ready")
        return ready is not None and ready.status and not self.is_ended

    @property
    def is_ended(self) -> bool:
        """Whether the lease has ended: released, expired, refused, or dropped by an old lab controller."""
        refused = any((found := self.condition(name)) is not None and found.status for name in _ENDING)
        return refused or self.refusal is not None or self.effective_end_time is not None

    @property
    def refusal(self) -> Condition | None:
        """
        The condition that ended the lease for good; None if there is none.

        `Unsatisfiable` with the reason `NoExporter` does not count: lab controllers before 0.8 set it if the exporters
        are only offline, so that another try may help.
        """
        for name in _ENDING:
            found = self.condition(name)
            if found is not None and found.status and found.reason != "NoExporter":
                return found
        ready = self.condition("Ready")
        return ready if ready is not None and not ready.status else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route to a leased exporter: the endpoint of a router, and a token for one stream through it."""

    endpoint: str
    token: str = field(repr=False)

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Return the route in a `DialResponse` message."""
        token = Secret(message.router_token)  # not masked by value: each dial has a new one, and its format is known
        return cls(endpoint=message.router_endpoint, token=token)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotatedToken:
    """A new token for the client, and its expiry."""

    token: str = field(repr=False)
    expiry: datetime | None
    """None if the lab controller does not say."""

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Return the token in a `RotateTokenResponse` message."""
        return cls(token=Token(message.token), expiry=_time(message, "expiry"))


def _split(resource_name: str) -> tuple[str, str]:
    parts = resource_name.split("/")
    return (parts[1], parts[3]) if len(parts) == 4 else ("", short_name(resource_name))


def _status(number: int) -> str:
    names = value_names(client_pb2.Exporter, "status", prefix="EXPORTER_STATUS_")
    return names.get(number, f"STATUS_{number}")  # a number without a name is from a newer lab controller


@cache
def value_names(message: type[Message], field: str, *, prefix: str) -> Mapping[int, str]:
    """Return the names of the values of an enum field by their numbers, without `prefix`."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum is not None  # it is a field of an enum
    return {value.number: value.name.removeprefix(prefix) for value in enum.values}


def _has(message: Message, name: str) -> bool:
    """Return whether a field is set; False if the installed stubs do not have it."""
    return name in message.DESCRIPTOR.fields_by_name and message.HasField(name)


def _seconds(message: Any, name: str) -> float | None:
    """Return a duration in seconds; None if it is absent, negative, or longer than Go knows durations."""
    value = getattr(message, name)
    seconds = float(value.seconds + value.nanos / 1e9)
    return seconds if message.HasField(name) and 0.0 <= seconds <= _LONGEST else None


def _time(message: Any, name: str) -> datetime | None:
    """Return a time; one that Python cannot express is its first or last one."""
    if not message.HasField(name):
        return None
    stamp = getattr(message, name)
    offset = min(max(stamp.seconds, _FIRST), _LAST)
    return _EPOCH + timedelta(seconds=offset, microseconds=min(max(stamp.nanos, 0), _NANOS - 1) // 1000)


def _conditions(message: Any) -> list[Condition]:
    """Return the conditions that are true or false; those that are `Unknown` are left out."""
    return [
        Condition(type=item.type, status=item.status == "True", reason=item.reason, message=item.message)
        for item in message.conditions
        if item.status in ("True", "False")
    ]

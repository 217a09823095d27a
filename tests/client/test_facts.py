"""Exporters and leases, from messages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from jumpstarter_protocol import client_pb2, kubernetes_pb2

from pytest_jumpstarter.client.v1 import Condition, Exporter, Lease, Route

NAME = "namespaces/lab/leases/x"


def lease(*conditions: tuple[str, str, str]) -> Lease:
    """Return a lease with conditions (type, status, reason)."""
    message = client_pb2.Lease(name=NAME, client="namespaces/lab/clients/ci")
    for kind, status, reason in conditions:
        message.conditions.append(kubernetes_pb2.Condition(type=kind, status=status, reason=reason, message="m"))
    return Lease.from_message(message)


def test_lease_fields() -> None:
    """Every field arrives in Python's types, and what is not set is None."""
    message = client_pb2.Lease(
        name=NAME,
        client="namespaces/lab/clients/ci",
        exporter="namespaces/lab/exporters/b",
        selector="a=b",
        tags={"k": "v"},
    )
    message.duration.FromMilliseconds(1500)
    message.effective_begin_time.FromJsonString("2030-01-01T00:00:00Z")
    fact = Lease.from_message(message)
    assert fact == Lease(
        name="x",
        namespace="lab",
        client="ci",
        exporter="b",
        selector="a=b",
        duration=1.5,
        effective_begin_time=datetime(2030, 1, 1, tzinfo=UTC),
        tags={"k": "v"},
    )
    assert fact.resource_name == NAME


@pytest.mark.parametrize(
    ("conditions", "is_ready", "is_ended", "refusal"),
    [
        ([], False, False, None),
        ([("Pending", "True", "Offline")], False, False, None),
        ([("Pending", "True", "NotAvailable"), ("Ready", "True", "Ready")], True, False, None),
        ([("Ready", "True", "Ready")], True, False, None),
        ([("Pending", "True", "x"), ("Ready", "False", "Released")], False, True, "Released"),
        ([("Ready", "False", "Expired")], False, True, "Expired"),
        ([("Unsatisfiable", "True", "NoAccess")], False, True, "NoAccess"),
        ([("Invalid", "True", "InvalidSelector")], False, True, "InvalidSelector"),
        ([("Unsatisfiable", "True", "NoExporter")], False, True, None),
        ([("Unsatisfiable", "False", "NoAccess"), ("Ready", "True", "Ready")], True, False, None),
        ([("Ready", "Unknown", "x")], False, False, None),
    ],
)
def test_state(conditions: list[tuple[str, str, str]], is_ready: bool, is_ended: bool, refusal: str | None) -> None:
    """Ready, ended and refused follow from the conditions as Jumpstarter's lab controller states them."""
    fact = lease(*conditions)
    assert (fact.is_ready, fact.is_ended) == (is_ready, is_ended)
    assert (fact.refusal.reason if fact.refusal else None) == refusal


def test_effective_end_is_the_end() -> None:
    """A lease with an effective end is over, whatever else it says."""
    message = client_pb2.Lease(name=NAME)
    message.effective_end_time.FromJsonString("2030-01-01T00:00:00Z")
    message.conditions.append(kubernetes_pb2.Condition(type="Ready", status="True"))
    fact = Lease.from_message(message)
    assert fact.is_ended
    assert not fact.is_ready


def test_condition_by_type() -> None:
    """A condition is found by its type."""
    fact = lease(("Pending", "True", "Offline"))
    assert fact.condition("Pending") == Condition(type="Pending", status=True, reason="Offline", message="m")
    assert fact.condition("Ready") is None


def test_exporter_fields() -> None:
    """Status is the enum's bare name; `enabled` is None where the server does not say."""
    message = client_pb2.Exporter(name="namespaces/lab/exporters/b", labels={"a": "b"}, online=True, status=4)
    fact = Exporter.from_message(message)
    assert fact == Exporter(name="b", namespace="lab", labels={"a": "b"}, online=True, status="LEASE_READY")
    message.enabled = False
    assert Exporter.from_message(message).enabled is False


def test_status_of_a_newer_peer() -> None:
    """A status that the installed stubs do not know is a number with a name, not an error."""
    message = client_pb2.Exporter.FromString(b"\x20\x63")  # field 4, varint 99
    assert Exporter.from_message(message).status == "STATUS_99"


def test_a_route_hides_its_token() -> None:
    """The router token is in no repr."""
    route = Route(endpoint="h:1", token="s3cr3t")
    assert "s3cr3t" not in repr(route)


@pytest.mark.parametrize(
    ("seconds", "nanos", "year"),
    [(2**62, 0, 9999), (-(2**62), 0, 1), (2**63 - 1, 2**31 - 1, 9999), (0, -1, 1970), (0, 2**31 - 1, 1970)],
)
def test_absurd_time(seconds: int, nanos: int, year: int) -> None:
    """A time that Python cannot express is its first or last one: a lease of somebody else breaks no listing."""
    message = client_pb2.Lease(name=NAME)
    message.end_time.seconds, message.end_time.nanos = seconds, nanos
    end = Lease.from_message(message).end_time
    assert end is not None
    assert end.year == year


@pytest.mark.parametrize(("seconds", "nanos"), [(2**62, 0), (-1, 0), (-(2**62), 0), (0, -1)])
def test_absurd_duration(seconds: int, nanos: int) -> None:
    """A duration that no lease can have is none, so that nothing is computed from it."""
    message = client_pb2.Lease(name=NAME)
    message.effective_duration.seconds, message.effective_duration.nanos = seconds, nanos
    assert Lease.from_message(message).effective_duration is None

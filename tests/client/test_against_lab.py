"""Every typed method against a real lab controller, with a real exporter where a lease must be Ready."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from grpc import StatusCode

from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease, Request, Route
from pytest_jumpstarter.errors import (
    AlreadyExists,
    AlreadyReleased,
    AuthenticationError,
    InvalidArgument,
    NotFound,
    NotReady,
)
from pytest_jumpstarter.lab import Lab


@pytest.fixture
def config(lab: Lab) -> ClientConfig:
    """Return the client config of the shared lab."""
    return ClientConfig.load(lab.client_config, environ={})


@pytest.fixture
def client(config: ClientConfig) -> Iterator[Client]:
    """Return a client of the shared lab."""
    with Client.from_config(config) as client:
        yield client


@pytest.fixture
def lease_id(client: Client) -> Iterator[str]:
    """Return a lease id that nobody used, and release its lease after the test."""
    name = f"pj-{uuid.uuid4().hex[:12]}"
    yield name
    client.send(Request("DeleteLease", {"name": f"namespaces/{client.namespace}/leases/{name}"}))


def await_lease(client: Client, name: str, holds: Callable[[Lease], bool]) -> Lease:
    """Poll a lease until `holds`, for at most 30 s."""
    end = time.monotonic() + 30
    while not holds(lease := client.get_lease(name)):
        assert time.monotonic() < end, lease
        time.sleep(0.02)
    return lease


def dial(client: Client, lease: str) -> Route:
    """Dial until the exporter listens, for at most 30 s: it reports LEASE_READY a moment earlier."""
    end = time.monotonic() + 30
    while True:
        try:
            return client.dial(lease)
        except NotReady:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_exporters(client: Client) -> None:
    """Exporters can be listed, filtered, paged through and fetched."""
    everyone = {exporter.name for exporter in client.list_exporters(page_size=2)}
    assert {"board-1", "nobody-1"} <= everyone
    absent = list(client.list_exporters(filter="board=absent"))
    assert [(exporter.name, exporter.online, exporter.enabled) for exporter in absent] == [("nobody-1", False, True)]
    one = client.get_exporter("nobody-1")
    assert one == absent[0] == client.get_exporter(f"namespaces/{client.namespace}/exporters/nobody-1")
    assert one.labels["board"] == "absent"


def test_life_of_a_lease(client: Client, lease_id: str) -> None:
    """A lease is created, becomes Ready, can be dialled, is extended, released, and says so."""
    created = client.create_lease(lease_id=lease_id, selector="board=mock", duration=60, tags={"run": lease_id})
    assert (created.name, created.client, created.duration, created.is_ready) == (lease_id, client.name, 60.0, False)
    lease = await_lease(client, lease_id, lambda lease: lease.is_ready)
    assert (lease.exporter, lease.tags, lease.selector) == ("mock-1", {"run": lease_id}, "board=mock")
    assert lease.effective_begin_time is not None
    assert abs((datetime.now(UTC) - lease.effective_begin_time).total_seconds()) < 60
    assert [found.name for found in client.list_leases(tag_filter=f"run={lease_id}")] == [lease_id]

    route = dial(client, lease_id)
    assert route.endpoint
    assert route.token

    assert client.update_lease(lease_id, duration=90.5).duration == 90.5
    with pytest.raises(NotFound, match="target client not found"):
        client.update_lease(lease_id, client="nobody")

    client.delete_lease(lease_id)
    ended = await_lease(client, lease_id, lambda lease: lease.is_ended)
    assert ended.refusal is not None
    assert (ended.refusal.type, ended.refusal.reason) == ("Ready", "Released")
    assert list(client.list_leases(tag_filter=f"run={lease_id}")) == []
    assert [found.name for found in client.list_leases(tag_filter=f"run={lease_id}", only_active=False)] == [lease_id]
    with pytest.raises(AlreadyReleased):
        client.delete_lease(lease_id)
    with pytest.raises(AlreadyExists, match="already exists"):  # a lease id is used once
        client.create_lease(lease_id=lease_id, selector="board=mock", duration=60)


def test_by_exporter_name(client: Client, lease_id: str) -> None:
    """A lease may ask for one exporter by name; while it is offline the lease waits."""
    client.create_lease(lease_id=lease_id, exporter_name="nobody-1", duration=60)
    lease = await_lease(client, lease_id, lambda lease: lease.condition("Pending") is not None)
    assert (lease.exporter_name, lease.exporter, lease.is_ready, lease.is_ended) == ("nobody-1", None, False, False)
    with pytest.raises(NotReady, match="lease not active"):
        client.dial(lease_id)


@pytest.mark.parametrize(
    ("wanted", "reason"), [({"selector": "board=none"}, "NoAccess"), ({"exporter_name": "none"}, "ExporterNotFound")]
)
def test_unsatisfiable(client: Client, lease_id: str, wanted: dict[str, str], reason: str) -> None:
    """A lease that nothing can serve is refused for good."""
    client.create_lease(lease_id=lease_id, duration=60, **wanted)  # type: ignore[arg-type]  # one of two keywords
    lease = await_lease(client, lease_id, lambda lease: lease.is_ended)
    assert lease.refusal is not None
    assert (lease.refusal.type, lease.refusal.reason) == ("Unsatisfiable", reason)


def test_no_duration(client: Client, lease_id: str) -> None:
    """What the server refuses as malformed is InvalidArgument in its words, whatever its code."""
    with pytest.raises(InvalidArgument, match="duration is required"):
        client.create_lease(lease_id=lease_id, selector="board=mock")


def test_missing(client: Client) -> None:
    """What is not there is NotFound, in each method that asks for one thing."""
    for call in (client.get_lease, client.get_exporter, client.delete_lease, client.dial):
        with pytest.raises(NotFound, match='"nothing" not found'):
            call("nothing")


def test_rotated_token_works(client: Client) -> None:
    """The token that RotateToken gives is good for the next call."""
    rotated = client.rotate_token()
    assert rotated.expiry is not None
    assert rotated.expiry > datetime.now(UTC)
    client.token = rotated.token
    assert client.get_exporter("nobody-1").name == "nobody-1"


@pytest.mark.parametrize("change", [{"token": "wrong"}, {"name": "stranger"}])
def test_wrong_identity(config: ClientConfig, change: dict[str, str]) -> None:
    """A token that is not for this client is an AuthenticationError that names where it came from."""
    with Client.from_config(dataclasses.replace(config, **change)) as client:  # type: ignore[arg-type]  # texts both
        with pytest.raises(AuthenticationError) as caught:
            client.get_lease("x")
        assert str(config.path) in str(caught.value)


def test_other_namespace(client: Client) -> None:
    """A whole name in a namespace that is not ours is refused by the server, not by us."""
    response = client.send(Request("GetLease", {"name": "namespaces/elsewhere/leases/x"}))
    assert (response.code, response.details) == (StatusCode.PERMISSION_DENIED, "namespace mismatch")


def test_json(client: Client) -> None:
    """The body of a response as JSON has the names of the HTTP form."""
    response = client.send(Request("ListExporters", {"parent": f"namespaces/{client.namespace}"}))
    names = {exporter["name"] for exporter in response.raise_for_status().json()["exporters"]}
    assert f"namespaces/{client.namespace}/exporters/board-1" in names

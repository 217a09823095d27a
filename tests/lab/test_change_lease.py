"""UpdateLease, DeleteLease, and the fields of a lease over its life."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jumpstarter_protocol import client_pb2, kubernetes_pb2

from .peers import ManualExporter, Peer, at, conditions, refusal, seconds

LEASES = "namespaces/lab/leases"
NOBODY = "kind=never-seen"  # an exporter that is there but never comes: leases stay pending


class TestUpdate:
    """UpdateLease."""

    def update(self, peer: Peer, lease: client_pb2.Lease, **fields: Any) -> client_pb2.Lease:
        """Update a lease."""
        request = client_pb2.UpdateLeaseRequest(lease=client_pb2.Lease(name=lease.name, **fields))
        updated: client_pb2.Lease = peer.call(peer.clients.UpdateLease, request)
        return updated

    def refused(self, peer: Peer, lease: client_pb2.Lease, **fields: Any) -> str:
        """Return the text with which an update is refused."""
        code, text = refusal(lambda: self.update(peer, lease, **fields))
        assert code == "UNKNOWN"
        return text

    @pytest.fixture
    def active(self, peer: Peer, exporter: ManualExporter) -> client_pb2.Lease:
        """Make a lease that has an exporter."""
        return peer.await_condition(peer.create(selector="kind=solo").name, "Ready", "True", "Ready")

    def test_duration(self, peer: Peer) -> None:
        """A new duration replaces the old one, whatever the mask says."""
        lease = peer.create(selector=NOBODY, duration=60)
        request = client_pb2.UpdateLeaseRequest(lease=client_pb2.Lease(name=lease.name, duration=seconds(30)))
        request.update_mask.paths.append("selector")
        assert peer.call(peer.clients.UpdateLease, request).duration == seconds(30)

    def test_not_owner(self, peer: Peer, other: Peer) -> None:
        """Only its owner changes a lease."""
        lease = other.create(selector=NOBODY)
        assert self.refused(peer, lease, duration=seconds(1)) == "UpdateLease permission denied"

    def test_nothing_asked(self, peer: Peer) -> None:
        """An update without times or client changes nothing; selector and tags are ignored."""
        lease = peer.create(selector=NOBODY, duration=60)
        updated = self.update(peer, lease, selector="x=y", tags={"a": "b"})
        assert (updated.selector, dict(updated.tags), updated.duration) == ("kind=never-seen", {}, seconds(60))

    def test_begin_without_duration(self, peer: Peer) -> None:
        """A begin alone is refused: the request is read as if it were a new lease."""
        lease = peer.create(selector=NOBODY)
        text = self.refused(peer, lease, begin_time=at(100))
        assert text == "duration is required (must specify Duration, or both BeginTime and EndTime)"

    def test_begin_after_start(self, peer: Peer, active: client_pb2.Lease) -> None:
        """A lease that has started cannot begin at another time."""
        text = self.refused(peer, active, begin_time=at(100), duration=seconds(60))
        assert text == "cannot update BeginTime: lease has already started"

    def test_end_writes_begin(self, peer: Peer) -> None:
        """An end with a duration also sets the begin of a lease that had none."""
        lease, end = peer.create(selector=NOBODY), at(1000)
        updated = self.update(peer, lease, end_time=end, duration=seconds(100))
        assert updated.begin_time.seconds == end.seconds - 100

    def test_conflict(self, peer: Peer) -> None:
        """A new duration that contradicts begin and end is refused, and nothing is changed."""
        lease = peer.create(selector=NOBODY, begin_time=at(1000), end_time=at(1100), duration=None)
        assert self.refused(peer, lease, duration=seconds(5)) == "duration conflicts with begin_time and end_time"
        assert peer.lease(lease.name).duration == lease.duration

    def test_transfer(self, peer: Peer, other: Peer, active: client_pb2.Lease, exporter: ManualExporter) -> None:
        """A transferred lease belongs to the other client, and its exporter is told."""
        assert exporter.status.next().client_name == "default"
        updated = self.update(peer, active, client="namespaces/lab/clients/other")
        assert updated.client == "namespaces/lab/clients/other"
        assert exporter.status.next().client_name == "other"
        assert refusal(lambda: peer.delete(active.name)) == ("UNKNOWN", "DeleteLease permission denied")
        other.delete(active.name)

    @pytest.mark.parametrize(
        ("client", "text"),
        [
            ("namespaces/moon/clients/other", "cannot transfer lease to client in different namespace"),
            ("namespaces/lab/clients/x", 'target client not found: clients.jumpstarter.dev "x" not found'),
        ],
    )
    def test_bad_transfer(self, peer: Peer, active: client_pb2.Lease, client: str, text: str) -> None:
        """A lease is transferred only to a client of the same namespace."""
        assert self.refused(peer, active, client=client) == text

    def test_transfer_too_early(self, peer: Peer) -> None:
        """A pending lease cannot be transferred."""
        lease = peer.create(selector=NOBODY)
        text = self.refused(peer, lease, client="namespaces/lab/clients/other")
        assert text == "cannot transfer lease: lease has not started yet"

    def test_transfer_too_late(self, peer: Peer, active: client_pb2.Lease) -> None:
        """An ended lease cannot be transferred."""
        peer.delete(active.name)
        peer.await_condition(active.name, "Ready", "False", "Released")
        text = self.refused(peer, active, client="namespaces/lab/clients/other")
        assert text == "cannot transfer lease: lease has already ended"

    def test_shorter_than_elapsed(self, peer: Peer, active: client_pb2.Lease) -> None:
        """A duration that has already passed ends the lease: the timer is armed anew."""
        self.update(peer, active, duration=seconds(0.001))
        lease = peer.await_condition(active.name, "Ready", "False", "Expired")
        assert conditions(lease)[-1][3] == "The lease has expired"

    def test_longer(self, peer: Peer, exporter: ManualExporter) -> None:
        """A lease that is extended does not end when it would have."""
        lease = peer.create(selector="kind=solo", duration=1)
        peer.await_condition(lease.name, "Ready", "True", "Ready")
        self.update(peer, lease, duration=seconds(600))
        clock = peer.create(exporter_name="fresh-1", duration=600, begin_time=at(2))
        peer.await_condition(clock.name, "Pending", "True", "Offline")  # by then two seconds are over
        assert conditions(peer.lease(lease.name))[-1][:2] == ("Ready", "True")


class TestDelete:
    """DeleteLease."""

    def test_pending(self, peer: Peer) -> None:
        """A pending lease that is released shows no times at all, and stays readable."""
        lease = peer.create(selector=NOBODY)
        peer.await_condition(lease.name, "Pending", "True", "Offline")
        peer.delete(lease.name)
        lease = peer.await_condition(lease.name, "Ready", "False", "Released")
        offline = "While there are 1 available exporters (i.e. ), none of them are online"
        assert conditions(lease) == [
            ("Pending", "True", "Offline", offline),
            ("Ready", "False", "Released", "The lease was marked for release"),
        ]
        assert not {field.name for field, _ in lease.ListFields()} & {
            "exporter", "effective_begin_time", "effective_end_time", "effective_duration"
        }  # fmt: skip

    def test_twice(self, peer: Peer) -> None:
        """A second delete says that the lease was released before."""
        lease = peer.create(selector=NOBODY)
        peer.delete(lease.name)
        assert refusal(lambda: peer.delete(lease.name)) == (
            "FAILED_PRECONDITION",
            f'lease "{lease.name}" has already been released',
        )

    def test_not_owner(self, peer: Peer, other: Peer) -> None:
        """Only its owner deletes a lease."""
        lease = other.create(selector=NOBODY)
        assert refusal(lambda: peer.delete(lease.name)) == ("UNKNOWN", "DeleteLease permission denied")

    def test_missing(self, peer: Peer) -> None:
        """A lease that never was is not found."""
        assert refusal(lambda: peer.delete(f"{LEASES}/nope")) == ("UNKNOWN", 'leases.jumpstarter.dev "nope" not found')

    def test_expired(self, peer: Peer, exporter: ManualExporter) -> None:
        """An expired lease can be deleted once."""
        lease = peer.create(selector="kind=solo", duration=0.2)
        peer.await_condition(lease.name, "Ready", "False", "Expired")
        peer.delete(lease.name)
        assert refusal(lambda: peer.delete(lease.name))[0] == "FAILED_PRECONDITION"


class TestLife:
    """The fields of a lease over its life."""

    def test_active_and_released(self, peer: Peer, exporter: ManualExporter) -> None:
        """An active lease shows exporter, begin and elapsed time; a released one its end as well."""
        name = peer.create(selector="kind=solo").name
        lease = peer.await_condition(name, "Ready", "True", "Ready")
        assert conditions(lease)[-1] == ("Ready", "True", "Ready", "An exporter has been acquired for the client")
        assert lease.exporter == "namespaces/lab/exporters/solo-1"
        assert lease.HasField("effective_begin_time")
        assert lease.effective_begin_time.nanos == 0
        assert lease.HasField("effective_duration")
        assert not lease.HasField("effective_end_time")
        peer.delete(name)
        lease = peer.await_condition(name, "Ready", "False", "Released")
        assert lease.exporter == "namespaces/lab/exporters/solo-1"
        assert lease.HasField("effective_end_time")

    def test_condition_time(self, peer: Peer, exporter: ManualExporter) -> None:
        """A condition has a time in whole seconds and counts what was asked for."""
        lease = peer.await_condition(peer.create(selector="kind=solo").name, "Ready", "True", "Ready")
        condition: kubernetes_pb2.Condition = lease.conditions[-1]
        assert abs(condition.lastTransitionTime.seconds - time.time()) < 60
        assert (condition.lastTransitionTime.nanos, condition.observedGeneration) == (0, 1)

"""The leases of clients before 0.7, by the controller service."""

from __future__ import annotations

from jumpstarter_protocol import jumpstarter_pb2, kubernetes_pb2

from .peers import Peer, refusal, seconds


def request(peer: Peer, **selector: str) -> str:
    """Request a lease by labels, and one by an expression; return its name."""
    wanted = kubernetes_pb2.LabelSelector(
        match_labels=selector,
        match_expressions=[kubernetes_pb2.LabelSelectorRequirement(key="gone", operator="DoesNotExist")],
    )
    message = jumpstarter_pb2.RequestLeaseRequest(duration=seconds(60), selector=wanted)
    name: str = peer.call(peer.controller.RequestLease, message).name
    return name


def test_life(peer: Peer) -> None:
    """A lease is requested, read and listed; it is the same lease as of newer clients."""
    name = request(peer, board="spare")
    lease = peer.call(peer.controller.GetLease, jumpstarter_pb2.GetLeaseRequest(name=name))
    assert dict(lease.selector.match_labels) == {"board": "spare"}
    assert [(it.key, it.operator) for it in lease.selector.match_expressions] == [("gone", "DoesNotExist")]
    assert (lease.duration.seconds, lease.conditions[-1].type) == (60, "Ready")
    assert lease.exporter_uuid
    assert peer.call(peer.controller.ListLeases, jumpstarter_pb2.ListLeasesRequest()).names == [name]
    assert peer.lease(f"namespaces/lab/leases/{name}").selector == "board=spare,!gone"


def test_of_another_client(peer: Peer, other: Peer) -> None:
    """Another client neither reads nor lists it."""
    name = request(peer, kind="never-seen")
    answer = refusal(lambda: other.call(other.controller.GetLease, jumpstarter_pb2.GetLeaseRequest(name=name)))
    assert answer == ("UNKNOWN", "GetLease permission denied")
    assert not other.call(other.controller.ListLeases, jumpstarter_pb2.ListLeasesRequest()).names


def test_unknown_operator(peer: Peer) -> None:
    """An operator that Kubernetes does not know is refused."""
    expression = kubernetes_pb2.LabelSelectorRequirement(key="a", operator="Near")
    wanted = kubernetes_pb2.LabelSelector(match_expressions=[expression])
    message = jumpstarter_pb2.RequestLeaseRequest(duration=seconds(60), selector=wanted)
    answer = refusal(lambda: peer.call(peer.controller.RequestLease, message))
    assert answer == ("UNKNOWN", '"Near" is not a valid label selector operator')

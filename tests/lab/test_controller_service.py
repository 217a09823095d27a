"""The controller as exporters see it, and the gate that dials pass."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from jumpstarter_protocol import client_pb2, jumpstarter_pb2, jumpstarter_pb2_grpc

from pytest_jumpstarter.lab import Lab, controller_service
from pytest_jumpstarter.lab.model import Exporter, Status
from pytest_jumpstarter.lab.refusal import Refusal

from .peers import STATUSES, ManualExporter, Peer, refusal, wait_for


@pytest.fixture
def leased(peer: Peer, exporter: ManualExporter) -> client_pb2.Lease:
    """Lease `solo-1`; its exporter has been told, and has done nothing yet."""
    lease = peer.await_condition(peer.create(selector="kind=solo").name, "Ready", "True", "Ready")
    assert exporter.status.next().leased
    return lease


@pytest.fixture
def stranger(lab: Lab) -> Iterator[ManualExporter]:
    """Be another exporter."""
    with ManualExporter(lab.config_dir / "exporters" / "ext-1.yaml") as manual:
        yield manual


def bare(lease: client_pb2.Lease) -> str:
    """Return the name of a lease without its namespace."""
    return lease.name.rpartition("/")[2]


class TestRegister:
    """Register and Unregister."""

    def test_own_labels(self, peer: Peer, exporter: ManualExporter) -> None:
        """Of an exporter's labels only Jumpstarter's own are taken; the lab file's stay."""
        exporter.register(**{"jumpstarter.dev/name": "solo", "kind": "impostor"})
        assert dict(peer.exporter("solo-1").labels) == {"kind": "solo", "jumpstarter.dev/name": "solo"}
        exporter.register()
        assert dict(peer.exporter("solo-1").labels) == {"kind": "solo"}

    def test_uuid(self, exporter: ManualExporter) -> None:
        """An exporter keeps its uuid."""
        assert exporter.register() == exporter.register() != ""

    def test_unregister(self, peer: Peer, exporter: ManualExporter) -> None:
        """An exporter that says goodbye is offline, with its reason, and is not leased."""
        exporter.call(exporter.controller.Unregister, jumpstarter_pb2.UnregisterRequest(reason="going home"))
        seen = peer.exporter("solo-1")
        assert (seen.online, STATUSES[seen.status], seen.status_message) == (False, "OFFLINE", "going home")
        peer.await_condition(peer.create(selector="kind=solo").name, "Pending", "True", "Offline")

    def test_client_as_exporter(self, peer: Peer) -> None:
        """A client cannot act as an exporter."""
        request = jumpstarter_pb2.RegisterRequest()
        assert refusal(lambda: peer.call(peer.controller.Register, request)) == (
            "INVALID_ARGUMENT",
            "object kind mismatch",
        )

    def test_service_endpoints(self, exporter: ManualExporter) -> None:
        """A method newer than this lab is UNIMPLEMENTED, which exporters take for none."""
        method: Any = exporter.channel.unary_unary("/jumpstarter.v1.ControllerService/GetServiceEndpoints")
        assert refusal(lambda: method(b"", metadata=exporter.metadata, timeout=10))[0] == "UNIMPLEMENTED"


class TestStatus:
    """Status and ReportStatus."""

    def test_report(self, peer: Peer, exporter: ManualExporter) -> None:
        """Clients see the status that an exporter reports, with its message."""
        exporter.report("AFTER_LEASE_HOOK_FAILED", "relay stuck")
        seen = peer.exporter("solo-1")
        assert (STATUSES[seen.status], seen.status_message) == ("AFTER_LEASE_HOOK_FAILED", "relay stuck")

    def test_offline_is_cleared(self, peer: Peer, exporter: ManualExporter) -> None:
        """An open status stream clears a stale OFFLINE, for exporters that never report."""
        exporter.report("OFFLINE")
        assert peer.exporter("solo-1").online is False
        exporter.watch().next()
        seen = peer.exporter("solo-1")
        assert (seen.online, STATUSES[seen.status]) == (True, "UNSPECIFIED")

    def test_lease_and_end(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """The end of a lease is told, once."""
        peer.delete(leased.name)
        assert exporter.status.next() == jumpstarter_pb2.StatusResponse(leased=False)
        assert exporter.status.is_empty

    def test_first_word(self, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """A status stream opened during a lease says so at once."""
        expected = jumpstarter_pb2.StatusResponse(leased=True, lease_name=bare(leased), client_name="default")
        assert exporter.watch().next() == expected

    def test_never_from_lease_to_lease(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """Between two leases an exporter is told that it is free, and the next waits until it has been."""
        second = peer.create(selector="kind=solo")
        peer.delete(leased.name)
        words = [exporter.status.next() for _ in range(2)]
        assert [word.leased for word in words] == [False, True]
        assert words[1].lease_name == bare(second)

    def test_not_while_cleaning(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """An exporter that still runs its afterLease hook gets no lease; it does when it is available."""
        exporter.report("AFTER_LEASE_HOOK")
        second = peer.create(selector="kind=solo")
        message = "There are 1 approved exporters, (i.e. ) but all of them are already leased"
        lease = peer.await_condition(second.name, "Pending", "True", "NotAvailable")
        assert lease.conditions[0].message == message
        peer.delete(leased.name)
        lease = peer.await_condition(second.name, "Pending", "True", "NotReady")
        message = "There are 1 online exporters, but none are ready (still cleaning up previous lease)"
        assert lease.conditions[0].message == message
        exporter.report("AVAILABLE")
        lease = peer.await_condition(second.name, "Ready", "True", "Ready")
        assert [it.type for it in lease.conditions] == ["Pending", "Ready"]

    def test_release_with_status(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """An exporter of 0.8 releases its lease by a flag on its status."""
        exporter.report("AFTER_LEASE_HOOK", release=True)
        peer.await_condition(leased.name, "Ready", "False", "Released")

    def test_lease_outlives_offline(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """A lease does not end because its exporter goes offline."""
        exporter.report("OFFLINE")
        marker = peer.create(selector="kind=none-such")
        peer.await_condition(marker.name, "Unsatisfiable", "True", "NoAccess")
        assert not peer.lease(leased.name).HasField("effective_end_time")


class TestSelection:
    """Which exporter a lease gets."""

    def test_first_free_by_name(self, peer: Peer, lab: Lab) -> None:
        """Of several free exporters the first by name is taken, then the next."""
        with (
            ManualExporter(lab.config_dir / "exporters" / "ext-2.yaml") as second,
            ManualExporter(lab.config_dir / "exporters" / "ext-1.yaml") as first,
        ):
            second.join()
            first.join()
            leases = [peer.create(selector="kind=manual") for _ in range(3)]
            taken = [peer.await_condition(lease.name, "Ready", "True", "Ready").exporter for lease in leases[:2]]
            assert taken == ["namespaces/lab/exporters/ext-1", "namespaces/lab/exporters/ext-2"]
            waiting = peer.await_condition(leases[2].name, "Pending", "True", "NotAvailable")
            assert waiting.conditions[0].message.startswith("There are 2 approved exporters, (i.e. )")
            peer.delete_all()

    def test_named(self, peer: Peer, exporter: ManualExporter) -> None:
        """A lease by name gets that exporter."""
        lease = peer.await_condition(peer.create(exporter_name="solo-1").name, "Ready", "True", "Ready")
        assert lease.exporter == "namespaces/lab/exporters/solo-1"

    def test_named_but_other_selector(self, peer: Peer, exporter: ManualExporter) -> None:
        """A named exporter must match the selector too."""
        lease = peer.create(exporter_name="solo-1", selector="kind!=solo")
        lease = peer.await_condition(lease.name, "Unsatisfiable", "True", "SelectorMismatch")
        assert lease.conditions[0].message == "Requested exporter solo-1 does not match selector kind notin (solo)"


class TestListen:
    """Listen."""

    @pytest.mark.parametrize(
        ("lease", "text"),
        [("", "empty lease name"), ("nope", 'leases.jumpstarter.dev "nope" not found')],
    )
    def test_no_lease(self, exporter: ManualExporter, lease: str, text: str) -> None:
        """Listening needs a lease."""
        assert refusal(lambda: exporter.listen(lease).next()) == ("UNKNOWN", text)

    def test_not_ours(self, leased: client_pb2.Lease, stranger: ManualExporter) -> None:
        """Only the exporter of a lease listens for it."""
        assert refusal(lambda: stranger.listen(bare(leased)).next()) == ("UNKNOWN", "permission denied")

    def test_newer_takes_over(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """A newer stream ends the older one, which first delivers what it still holds."""
        exporter.report("LEASE_READY")
        older = exporter.listen(bare(leased))
        dialled = wait_for(lambda: try_dial(peer, bare(leased)), "a listening exporter")
        newer = exporter.listen(bare(leased))
        assert older.next().router_token == dialled.router_token
        with pytest.raises(EOFError):
            older.next()
        token = peer.dial(bare(leased)).router_token
        assert newer.next().router_token == token


def try_dial(peer: Peer, lease: str) -> jumpstarter_pb2.DialResponse | None:
    """Dial; None while the exporter does not listen yet."""
    try:
        return peer.dial(lease)
    except grpc.RpcError as error:
        if "exporter is not listening" not in str(error):
            raise
        return None


class TestDial:
    """Dial."""

    def test_answer(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """Client and exporter get the same endpoint and token."""
        exporter.report("LEASE_READY")
        listening = exporter.listen(bare(leased))
        dialled = wait_for(lambda: try_dial(peer, bare(leased)), "a listening exporter")
        heard = listening.next()
        assert (heard.router_endpoint, heard.router_token) == (dialled.router_endpoint, dialled.router_token)
        assert dialled.router_endpoint == peer.endpoint

    @pytest.mark.parametrize(
        ("lease", "text"),
        [("", "empty lease name"), ("nope", 'leases.jumpstarter.dev "nope" not found')],
    )
    def test_no_lease(self, peer: Peer, lease: str, text: str) -> None:
        """Dialling needs a lease."""
        assert refusal(lambda: peer.dial(lease)) == ("UNKNOWN", text)

    def test_not_owner(self, other: Peer, leased: client_pb2.Lease) -> None:
        """Only its owner dials a lease."""
        assert refusal(lambda: other.dial(bare(leased))) == ("UNKNOWN", "permission denied")

    def test_pending(self, peer: Peer) -> None:
        """A lease without exporter cannot be dialled."""
        lease = peer.create(selector="kind=never-seen")
        assert refusal(lambda: peer.dial(bare(lease))) == ("UNKNOWN", "lease not active")

    @pytest.mark.parametrize(
        ("status", "code", "text"),
        [
            ("OFFLINE", "FAILED_PRECONDITION", "exporter is offline"),
            ("BEFORE_LEASE_HOOK_FAILED", "FAILED_PRECONDITION", "exporter beforeLease hook failed"),
            ("AFTER_LEASE_HOOK_FAILED", "FAILED_PRECONDITION", "exporter afterLease hook failed"),
            ("LEASE_READY", "UNAVAILABLE", "exporter is not listening on lease {}"),
            ("BEFORE_LEASE_HOOK", "UNAVAILABLE", "exporter is not listening on lease {}"),
            ("AFTER_LEASE_HOOK", "UNAVAILABLE", "exporter is not listening on lease {}"),
            ("UNSPECIFIED", "UNAVAILABLE", "exporter is not listening on lease {}"),
        ],
    )
    def test_gate(
        self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease, status: str, code: str, text: str
    ) -> None:
        """The exporter's status decides whether a dial passes."""
        exporter.report(status)
        assert refusal(lambda: peer.dial(bare(leased))) == (code, text.format(bare(leased)))

    def test_waits_for_the_exporter(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """A dial waits while the exporter is still AVAILABLE, and goes through when it is ready."""
        listening = exporter.listen(bare(leased))
        answers: list[jumpstarter_pb2.DialResponse] = []
        dialling = threading.Thread(target=lambda: answers.append(peer.dial(bare(leased))))
        dialling.start()
        assert refusal(lambda: peer.dial(bare(leased), timeout=0.3))[0] == "DEADLINE_EXCEEDED"
        assert not answers
        exporter.report("LEASE_READY")
        dialling.join(20)
        assert answers[0].router_token == listening.next().router_token

    def test_looks_seldom(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dial that waits looks at the exporter after 0.5 s, 1 s, 2 s, then each 3 s, as Jumpstarter 0.9 does."""
        pauses: list[float] = []

        async def sleep(pause: float) -> None:
            pauses.append(pause)

        monkeypatch.setattr("pytest_jumpstarter.lab.controller_service.asyncio", SimpleNamespace(sleep=sleep))
        available = Exporter("lab", "solo-1", {})
        available.status = Status.AVAILABLE
        with pytest.raises(Refusal, match="status: Available"):
            asyncio.run(controller_service.wait_ready(available))
        assert pauses == [0.5, 1, 2, *[3] * 8]

    def test_queue_is_full(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """Dials that the exporter does not read wait in a queue; when it is full the lab says so."""
        exporter.report("LEASE_READY")
        # The listening end takes next to nothing off the connection, and its user takes nothing at all.
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1)]
        credentials = grpc.ssl_channel_credentials(exporter.roots)
        with grpc.secure_channel(exporter.endpoint, credentials, options) as channel:
            listen: Any = jumpstarter_pb2_grpc.ControllerServiceStub(channel).Listen
            call = listen(jumpstarter_pb2.ListenRequest(lease_name=bare(leased)), metadata=exporter.metadata)
            wait_for(lambda: try_dial(peer, bare(leased)), "a listening exporter")
            full = ("RESOURCE_EXHAUSTED", f"listener buffer full on lease {bare(leased)}")
            assert refusal(lambda: [peer.dial(bare(leased)) for _ in range(5000)]) == full
            call.cancel()


class TestRelease:
    """ReleaseLease, by the exporter and by the client."""

    def release(self, peer: Peer, name: str) -> None:
        """Release a lease as its client."""
        peer.call(peer.controller.ReleaseLease, jumpstarter_pb2.ReleaseLeaseRequest(name=name))

    def test_by_exporter(self, peer: Peer, exporter: ManualExporter, leased: client_pb2.Lease) -> None:
        """An exporter releases its lease, as often as it likes; the client's delete then comes too late."""
        exporter.release(bare(leased))
        exporter.release(bare(leased))
        peer.await_condition(leased.name, "Ready", "False", "Released")
        assert refusal(lambda: peer.delete(leased.name))[0] == "FAILED_PRECONDITION"

    def test_missing(self, exporter: ManualExporter) -> None:
        """To an exporter a missing lease is NOT_FOUND."""
        assert refusal(lambda: exporter.release("nope")) == ("NOT_FOUND", "lease nope not found")

    def test_of_another(self, stranger: ManualExporter, leased: client_pb2.Lease) -> None:
        """An exporter does not release another's lease."""
        text = f"lease {bare(leased)} is not held by exporter ext-1"
        assert refusal(lambda: stranger.release(bare(leased))) == ("FAILED_PRECONDITION", text)

    def test_by_client(self, peer: Peer, leased: client_pb2.Lease) -> None:
        """A client releases its own lease, as often as it likes."""
        self.release(peer, bare(leased))
        self.release(peer, bare(leased))
        peer.await_condition(leased.name, "Ready", "False", "Released")

    def test_by_other_client(self, other: Peer, leased: client_pb2.Lease) -> None:
        """A client does not release another's lease."""
        refused = ("UNKNOWN", "ReleaseLease permission denied")
        assert refusal(lambda: self.release(other, bare(leased))) == refused

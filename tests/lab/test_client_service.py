"""Codes and texts of the client service, as a client without any library gets them."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_protocol import client_pb2, kubernetes_pb2
from peers import ManualExporter, Metadata, Peer, refusal, seconds

from pytest_jumpstarter.lab import Lab

LEASES = "namespaces/lab/leases"
ALL = ["board-1", "board-2", "ext-1", "ext-2", "fresh-1", "off-1", "solo-1"]
NOBODY = "kind=never-seen"  # an exporter that is there but never comes: leases stay pending


@pytest.fixture
def name() -> str:
    """Make a lease id that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"


def at(offset: float) -> Timestamp:
    """Return the time `offset` whole seconds from now."""
    return Timestamp(seconds=int(time.time() + offset))


def conditions(lease: client_pb2.Lease) -> list[tuple[str, str, str, str]]:
    """Return type, status, reason and message of all conditions."""
    return [(it.type, it.status, it.reason, it.message) for it in lease.conditions]


class TestCaller:
    """Who may call: token, metadata, namespace, in this order."""

    @pytest.mark.parametrize(
        ("change", "code", "text"),
        [
            ({"authorization": []}, "UNAUTHENTICATED", "missing authorization header"),
            ({"authorization": ["Bearer a", "Bearer b"]}, "INVALID_ARGUMENT", "multiple authorization headers"),
            ({"authorization": ["Basic xyz"]}, "INVALID_ARGUMENT", "malformed authorization header"),
            ({"authorization": ["Bearer x.y.z"]}, "UNKNOWN", "failed to authenticate token"),
            ({"jumpstarter-namespace": []}, "INVALID_ARGUMENT", "missing metadata: jumpstarter-namespace"),
            ({"jumpstarter-namespace": ["lab"] * 2}, "INVALID_ARGUMENT", "multiple metadata: jumpstarter-namespace"),
            ({"jumpstarter-kind": []}, "INVALID_ARGUMENT", "missing metadata: jumpstarter-kind"),
            ({"jumpstarter-kind": ["Exporter"]}, "INVALID_ARGUMENT", "object kind mismatch"),
            (
                {"jumpstarter-name": []},
                "INVALID_ARGUMENT",
                "resource name required for pre-existing authentication",
            ),
            (
                {"jumpstarter-name": ["nobody"]},
                "UNKNOWN",
                'client lab/nobody: clients.jumpstarter.dev "nobody" not found',
            ),
            ({"jumpstarter-name": ["other"]}, "PERMISSION_DENIED", "permission denied for client lab/other"),
            (
                {"jumpstarter-namespace": ["moon"]},
                "UNKNOWN",
                'client moon/default: clients.jumpstarter.dev "default" not found',
            ),
        ],
    )
    def test_refused(self, peer: Peer, change: dict[str, list[str]], code: str, text: str) -> None:
        """A caller with wrong credentials is refused with the production controller's code and text."""
        metadata: Metadata = [(key, value) for key, value in peer.metadata if key not in change]
        metadata += [(key, value) for key, values in change.items() for value in values]
        request = client_pb2.ListExportersRequest(parent="namespaces/lab")
        assert refusal(lambda: peer.call(peer.clients.ListExporters, request, metadata=metadata)) == (code, text)

    def test_token_of_an_exporter(self, peer: Peer, exporter: ManualExporter) -> None:
        """An exporter's token does not open the client's service in a client's name."""
        metadata = [*peer.metadata[:3], ("authorization", f"Bearer {exporter.token}")]
        request = client_pb2.ListExportersRequest(parent="namespaces/lab")
        assert refusal(lambda: peer.call(peer.clients.ListExporters, request, metadata=metadata)) == (
            "PERMISSION_DENIED",
            "permission denied for client lab/default",
        )

    def test_other_namespace(self, peer: Peer) -> None:
        """A client cannot look into another namespace."""
        request = client_pb2.ListExportersRequest(parent="namespaces/moon")
        answer = refusal(lambda: peer.call(peer.clients.ListExporters, request))
        assert answer == ("PERMISSION_DENIED", "namespace mismatch")

    def test_name_is_read_first(self, peer: Peer) -> None:
        """A malformed name is refused even to a caller without credentials."""
        request = client_pb2.GetLeaseRequest(name="x")
        assert refusal(lambda: peer.call(peer.clients.GetLease, request, metadata=[])) == (
            "INVALID_ARGUMENT",
            'invalid number of segments in identifier "x", expecting 4, got 1',
        )

    def test_scheme_in_any_case(self, peer: Peer) -> None:
        """The word Bearer is read whatever its case."""
        metadata = [*peer.metadata[:3], ("authorization", f"bEaReR {peer.token}")]
        request = client_pb2.ListExportersRequest(parent="namespaces/lab")
        assert peer.call(peer.clients.ListExporters, request, metadata=metadata).exporters

    def test_unknown_method(self, peer: Peer) -> None:
        """A method that nobody serves is UNIMPLEMENTED."""
        method: Any = peer.channel.unary_unary("/jumpstarter.client.v1.ClientService/MakeCoffee")
        assert refusal(lambda: method(b"", metadata=peer.metadata, timeout=10))[0] == "UNIMPLEMENTED"


class TestNames:
    """Resource names."""

    @pytest.mark.parametrize(
        ("resource", "text"),
        [
            ("", 'invalid number of segments in identifier "", expecting 4, got 1'),
            (
                "namespaces/lab/leases/../x",
                'invalid number of segments in identifier "namespaces/lab/leases/../x", expecting 4, got 5',
            ),
            (
                "spaces/lab/leases/x",
                'invalid first segment in identifier "spaces/lab/leases/x", expecting "namespaces", got "spaces"',
            ),
            (
                "namespaces/lab/exporters/x",
                'invalid third segment in identifier "namespaces/lab/exporters/x", expecting "leases", got "exporters"',
            ),
        ],
    )
    def test_malformed(self, peer: Peer, resource: str, text: str) -> None:
        """A malformed resource name is INVALID_ARGUMENT and says what is wrong."""
        assert refusal(lambda: peer.lease(resource)) == ("INVALID_ARGUMENT", text)

    @pytest.mark.parametrize("odd", ["..", "ünïcode-☃", "x" * 5000, "a b", "%2e%2e"])
    def test_odd(self, peer: Peer, odd: str) -> None:
        """A name that nothing can have is not found."""
        code, text = refusal(lambda: peer.lease(f"{LEASES}/{odd}"))
        assert code == "UNKNOWN"
        assert text.startswith(f'leases.jumpstarter.dev "{odd}'[:400])

    def test_exporter_not_found(self, peer: Peer) -> None:
        """An exporter that is not there is UNKNOWN, with Kubernetes' text."""
        assert refusal(lambda: peer.exporter("nope")) == ("UNKNOWN", 'exporters.jumpstarter.dev "nope" not found')


class TestExporters:
    """GetExporter and ListExporters."""

    def listed(self, peer: Peer, **fields: Any) -> client_pb2.ListExportersResponse:
        """List exporters."""
        request = client_pb2.ListExportersRequest(parent="namespaces/lab", **fields)
        response: client_pb2.ListExportersResponse = peer.call(peer.clients.ListExporters, request)
        return response

    def test_real_one(self, peer: Peer) -> None:
        """An exporter that serves is online and available, with the labels of the lab file."""
        exporter = peer.exporter("board-1")
        assert exporter.name == "namespaces/lab/exporters/board-1"
        assert exporter.labels["board"] == "virtual"
        assert exporter.online
        assert exporter.enabled

    def test_never_seen(self, peer: Peer) -> None:
        """An external exporter that nobody runs is not online, and has no status."""
        exporter = peer.exporter("fresh-1")
        assert (exporter.online, exporter.status, exporter.status_message) == (False, 0, "Never seen")

    def test_disabled(self, peer: Peer) -> None:
        """An exporter that the lab file disables says so."""
        assert peer.exporter("off-1").enabled is False

    def test_in_order(self, peer: Peer) -> None:
        """All exporters come in one answer, in order of their names."""
        response = self.listed(peer)
        names = [it.name.rpartition("/")[2] for it in response.exporters]
        assert names == ALL
        assert response.next_page_token == ""

    def test_filter(self, peer: Peer) -> None:
        """A filter selects by labels."""
        response = self.listed(peer, filter="kind=manual,slot!=1")
        assert [it.name for it in response.exporters] == ["namespaces/lab/exporters/ext-2"]

    def test_bad_filter(self, peer: Peer) -> None:
        """A filter that does not parse is UNKNOWN, as any plain error is."""
        assert refusal(lambda: self.listed(peer, filter="a in (b"))[0] == "UNKNOWN"

    def test_pages(self, peer: Peer) -> None:
        """Pages follow one another without gap or overlap, and the last has no token."""
        names, token = [], ""
        for _ in range(4):
            response = self.listed(peer, page_size=2, page_token=token)
            names += [it.name.rpartition("/")[2] for it in response.exporters]
            token = response.next_page_token
        assert names == ALL
        assert token == ""

    def test_bad_page_token(self, peer: Peer) -> None:
        """A page token that the lab never gave is refused."""
        code, text = refusal(lambda: self.listed(peer, page_size=2, page_token="☃"))
        assert (code, text[:46]) == ("UNKNOWN", "the provided continue parameter is not valid: ")


class TestCreate:
    """CreateLease."""

    def test_answer(self, peer: Peer, name: str) -> None:
        """The answer repeats what was asked for, and nothing has been decided yet."""
        lease = peer.create(name, selector=NOBODY, duration=90.5, tags={"run": "7"})
        assert lease.name == f"{LEASES}/{name}"
        assert lease.client == "namespaces/lab/clients/default"
        assert lease.selector == "kind=never-seen"
        assert lease.duration == seconds(90.5)
        assert dict(lease.tags) == {"run": "7"}
        assert not lease.conditions
        assert not any(lease.HasField(field) for field in ("exporter", "effective_begin_time", "effective_duration"))

    def test_name_is_made(self, peer: Peer) -> None:
        """Without a lease id the lab makes a name."""
        assert uuid.UUID(peer.create(selector=NOBODY).name.rpartition("/")[2])

    @pytest.mark.parametrize(
        ("asked", "echoed"),
        [
            ("b=1,a=2", "a=2,b=1"),
            ("a==1", "a=1"),
            ("a!=b", "a notin (b)"),
            ("a!=b,a!=c", "a notin (b,c)"),
            ("x in (b, a)", "x in (a,b)"),
            ("!gone , here", "!gone,here"),
        ],
    )
    def test_selector_is_echoed_formatted(self, peer: Peer, asked: str, echoed: str) -> None:
        """A selector comes back in the stored form, not as it was written."""
        assert set(peer.create(selector=asked).selector.split(",")) == set(echoed.split(","))

    def test_no_selector(self, peer: Peer) -> None:
        """A lease by name alone shows `<none>` as its selector."""
        lease = peer.create(exporter_name="fresh-1")
        assert (lease.selector, lease.exporter_name) == ("<none>", "fresh-1")

    def test_no_lease(self, peer: Peer) -> None:
        """A request without a lease is refused before anything else is looked at."""
        request = client_pb2.CreateLeaseRequest(parent="x")
        answer = refusal(lambda: peer.call(peer.clients.CreateLease, request, metadata=[]))
        assert answer == ("INVALID_ARGUMENT", "lease is required")

    def test_no_target(self, peer: Peer) -> None:
        """A lease needs a selector or an exporter's name."""
        assert refusal(peer.create) == ("INVALID_ARGUMENT", "one of selector or exporter_name is required")

    def test_taken(self, peer: Peer, name: str) -> None:
        """A lease id is used once, even when its lease has ended."""
        lease = peer.create(name, selector=NOBODY)
        taken = ("UNKNOWN", f'leases.jumpstarter.dev "{name}" already exists')
        assert refusal(lambda: peer.create(name, selector=NOBODY)) == taken
        peer.delete(lease.name)
        peer.await_condition(lease.name, "Ready", "False", "Released")
        assert refusal(lambda: peer.create(name, selector=NOBODY)) == taken

    @pytest.mark.parametrize("bad", ["../x", "Upper", "a_b", "-a", "x" * 254])
    def test_bad_id(self, peer: Peer, bad: str) -> None:
        """A lease id that Kubernetes would not take is refused with its words."""
        code, text = refusal(lambda: peer.create(bad, selector=NOBODY))
        assert code == "UNKNOWN"
        assert text.startswith(f'Lease.jumpstarter.dev "{bad}" is invalid: metadata.name: Invalid value: "{bad}": ')

    def test_bad_selector(self, peer: Peer) -> None:
        """A selector that does not parse is UNKNOWN."""
        code, text = refusal(lambda: peer.create(selector="a in (b"))
        assert (code, text[:32]) == ("UNKNOWN", "failed to parse label selector: ")

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({}, "duration is required (must specify Duration, or both BeginTime and EndTime)"),
            ({"duration": seconds(0)}, "duration must be positive, got 0s"),
            ({"duration": seconds(-90)}, "duration must be positive, got -1m30s"),
            (
                {"begin_time": Timestamp(seconds=100), "end_time": Timestamp(seconds=200), "duration": seconds(5)},
                "duration conflicts with begin_time and end_time",
            ),
            (
                {"begin_time": Timestamp(seconds=200), "end_time": Timestamp(seconds=100)},
                "duration must be positive, got -1m40s",
            ),
        ],
    )
    def test_times(self, peer: Peer, fields: dict[str, Any], text: str) -> None:
        """Times that do not make a lease are refused."""
        request = client_pb2.CreateLeaseRequest(
            parent="namespaces/lab", lease=client_pb2.Lease(selector=NOBODY, **fields)
        )
        assert refusal(lambda: peer.call(peer.clients.CreateLease, request)) == ("UNKNOWN", text)

    def test_times_derived(self, peer: Peer) -> None:
        """Two of begin, end and duration give the third."""
        lease = peer.create(selector=NOBODY, begin_time=at(100), end_time=at(160), duration=None)
        assert lease.duration in (seconds(59), seconds(60), seconds(61))
        end = at(500)
        lease = peer.create(selector=NOBODY, end_time=end, duration=200)
        assert lease.begin_time.seconds == end.seconds - 200

    @pytest.mark.parametrize(
        ("tags", "text"),
        [
            ({str(n): "" for n in range(11)}, "too many tags: 11 (maximum 10)"),
            ({"a/b": "1"}, "tag key \"a/b\" must not contain '/' (use simple names without prefix)"),
            ({"jumpstarter.dev/x": "1"}, 'tag key "jumpstarter.dev/x" must not use reserved prefix'),
            ({"metadata.jumpstarter.dev/x": "1"}, 'tag key "metadata.jumpstarter.dev/x" must not use reserved prefix'),
            ({"-a": "1"}, 'tag key "-a" is not a valid label key'),
            ({"x" * 64: "1"}, f'tag key "{"x" * 64}" is not a valid label key'),
            ({"a": "b c"}, 'tag value for key "a" is not a valid label value'),
            ({"a": "b" * 64}, 'tag value for key "a" is not a valid label value'),
        ],
    )
    def test_tags(self, peer: Peer, tags: dict[str, str], text: str) -> None:
        """Tags that cannot be labels are refused."""
        code, details = refusal(lambda: peer.create(selector=NOBODY, tags=tags))
        assert code == "INVALID_ARGUMENT"
        assert details.startswith(f"invalid lease tags: {text}")

    @pytest.mark.parametrize(
        ("fields", "kind", "reason", "message"),
        [
            (
                {"selector": "kind=none-such"},
                "Unsatisfiable",
                "NoAccess",
                "While there are 0 exporters matching the selector,"
                " none of them are approved by any policy for your client",
            ),
            (
                {"exporter_name": "none-such"},
                "Unsatisfiable",
                "ExporterNotFound",
                "Requested exporter none-such was not found",
            ),
            (
                {"exporter_name": "off-1"},
                "Unsatisfiable",
                "ExporterDisabled",
                "Requested exporter off-1 is disabled. To lease a disabled exporter, set spec.allowDisabled: true on"
                " the Lease, or use --allow-disabled with jmp create lease",
            ),
        ],
    )
    def test_unsatisfiable(self, peer: Peer, fields: dict[str, Any], kind: str, reason: str, message: str) -> None:
        """A lease that nothing can ever serve ends at once, without a Ready condition and without an end time."""
        lease = peer.await_condition(peer.create(**fields).name, kind, "True", reason)
        assert conditions(lease) == [(kind, "True", reason, message)]
        assert not lease.HasField("effective_end_time")
        assert lease.name not in listed_leases(peer)
        assert lease.name in listed_leases(peer, only_active=False)

    def test_all_disabled(self, peer: Peer) -> None:
        """A selector that only disabled exporters match can never be served."""
        lease = peer.await_condition(peer.create(selector="kind=disabled").name, "Unsatisfiable", "True", "AllDisabled")
        assert lease.conditions[0].message == "All 1 exporters matching the selector are disabled"

    def test_allow_disabled(self, peer: Peer) -> None:
        """A disabled exporter can be leased by name when that is asked for."""
        lease = peer.create(exporter_name="off-1", allow_disabled=True)
        assert lease.allow_disabled
        peer.await_condition(lease.name, "Pending", "True", "Offline")

    def test_blank_selector(self, peer: Peer) -> None:
        """A selector of blanks selects nothing, and the lease is invalid."""
        lease = peer.await_condition(peer.create(selector=" ").name, "Invalid", "True", "InvalidSelector")
        message = "The selector for the lease is empty, a selector is required"
        assert conditions(lease) == [("Invalid", "True", "InvalidSelector", message)]

    def test_scheduled(self, peer: Peer) -> None:
        """A lease that begins later has no conditions until then."""
        lease = peer.create(selector="kind=none-such", begin_time=at(3600))
        marker = peer.create(selector="kind=none-such")
        peer.await_condition(marker.name, "Unsatisfiable", "True", "NoAccess")
        assert not peer.lease(lease.name).conditions


def listed_leases(peer: Peer, **fields: Any) -> list[str]:
    """Return the names of the leases that ListLeases gives."""
    request = client_pb2.ListLeasesRequest(parent="namespaces/lab", **fields)
    return [lease.name for lease in peer.call(peer.clients.ListLeases, request).leases]


class TestListLeases:
    """ListLeases."""

    def test_of_all_clients(self, peer: Peer, other: Peer) -> None:
        """The leases of all clients are listed to each of them."""
        lease = other.create(selector=NOBODY)
        assert lease.name in listed_leases(peer)

    def test_filter_by_match_labels(self, peer: Peer, name: str) -> None:
        """A filter sees the plain equalities of a lease's selector, and nothing else of it."""
        lease = peer.create(selector=f"kind=never-seen,run={name},slot in (1,2)")
        assert listed_leases(peer, filter=f"run={name}") == [lease.name]
        assert listed_leases(peer, filter=f"run={name},slot") == []

    def test_tag_filter(self, peer: Peer, name: str) -> None:
        """A tag filter selects by tags, whose labels carry a prefix."""
        lease = peer.create(selector=NOBODY, tags={"run": name})
        assert listed_leases(peer, tag_filter=f"run={name}") == [lease.name]
        assert listed_leases(peer, filter=f"metadata.jumpstarter.dev/run={name}") == [lease.name]
        assert listed_leases(peer, tag_filter=f"run={name},!run") == []

    def test_bad_tag_filter(self, peer: Peer) -> None:
        """A tag filter that does not parse is INVALID_ARGUMENT."""
        code, text = refusal(lambda: listed_leases(peer, tag_filter="a in (b"))
        assert (code, text[:20]) == ("INVALID_ARGUMENT", "invalid tag_filter: ")

    def test_ended_label(self, peer: Peer, name: str) -> None:
        """An ended lease carries the ended label, and is listed only when asked for."""
        lease = peer.create(selector=NOBODY, tags={"run": name})
        peer.delete(lease.name)
        peer.await_condition(lease.name, "Ready", "False", "Released")
        assert listed_leases(peer, tag_filter=f"run={name}") == []
        ended = f"metadata.jumpstarter.dev/run={name},jumpstarter.dev/lease-ended=true"
        assert listed_leases(peer, filter=ended, only_active=False) == [lease.name]

    def test_pages(self, peer: Peer, name: str) -> None:
        """Leases come in order of their names, page by page."""
        names = [peer.create(f"{name}-{n}", selector=NOBODY, tags={"run": name}).name for n in (2, 0, 1)]
        request = client_pb2.ListLeasesRequest(parent="namespaces/lab", tag_filter=f"run={name}", page_size=2)
        first = peer.call(peer.clients.ListLeases, request)
        request.page_token = first.next_page_token
        second = peer.call(peer.clients.ListLeases, request)
        assert [it.name for it in (*first.leases, *second.leases)] == sorted(names)
        assert second.next_page_token == ""


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
        offline = "While there are 1 available exporters (i.e. fresh-1), none of them are online"
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


class TestRotateToken:
    """RotateToken."""

    def test_new_token(self, peer: Peer) -> None:
        """The new token works, and so does the old one."""
        request = client_pb2.RotateTokenRequest(parent="namespaces/lab")
        answer = peer.call(peer.clients.RotateToken, request)
        assert answer.token != peer.token
        assert answer.expiry.seconds > time.time()
        listing = client_pb2.ListExportersRequest(parent="namespaces/lab")
        metadata = [*peer.metadata[:3], ("authorization", f"Bearer {answer.token}")]
        assert peer.call(peer.clients.ListExporters, listing, metadata=metadata).exporters
        assert peer.call(peer.clients.ListExporters, listing).exporters

    def test_config_has_no_more_than_every_release_knows(self, lab: Lab) -> None:
        """The client config has the keys that Jumpstarter 0.7 knows too."""
        config = yaml.safe_load(lab.client_config.read_text())
        assert set(config) == {"apiVersion", "kind", "metadata", "endpoint", "tls", "token", "drivers"}
        assert config["drivers"] == {"allow": [], "unsafe": True}

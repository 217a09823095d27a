"""CreateLease and ListLeases, as a client without any library sees them."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_protocol import client_pb2

from .peers import ManualExporter, Peer, at, conditions, listed_leases, refusal, seconds, wait_for

LEASES = "namespaces/lab/leases"
NOBODY = "kind=never-seen"  # an exporter that is there but never comes: leases stay pending


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
        """Without a lease id the lab makes a name, a UUID that starts with the time."""
        names = [peer.create(selector=NOBODY).name.rpartition("/")[2] for _ in range(2)]
        assert {uuid.UUID(name).version for name in names} == {7}
        assert uuid.UUID(names[0]).int >> 80 <= uuid.UUID(names[1]).int >> 80

    @pytest.mark.parametrize(
        ("asked", "echoed"),
        [
            ("b=1,a=2", "a=2,b=1"),
            ("x in (a,a)", "x in (a)"),
            ("a!=1,a notin (2)", "a notin (2),a notin (1)"),
            ("a!=1,a=2,a", "a=2,a,a notin (1)"),
            ("a!=b", "a notin (b)"),
            ("a!=b,a!=c", "a notin (b,c)"),
            ("x in (b, a)", "x in (a,b)"),
            ("!gone , here", "!gone,here"),
        ],
    )
    def test_selector_is_echoed_formatted(self, peer: Peer, asked: str, echoed: str) -> None:
        """A selector comes back in the stored form, not as it was written."""
        assert peer.create(selector=asked).selector == echoed

    @pytest.mark.parametrize(("operator", "name"), [("==", "=="), (">", "gt"), ("<", "lt")])
    def test_operator_of_listings(self, peer: Peer, operator: str, name: str) -> None:
        """What a filter may use, and Kubernetes' stored form of a selector has not, is refused."""
        answer = refusal(lambda: peer.create(selector=f"b=1,a{operator}1"))
        assert answer == ("UNKNOWN", f"unsupported label selector operator: {name}")
        listed_leases(peer, filter=f"b=1,a{operator}1")

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
        """A selector of blanks selects nothing, and Kubernetes takes no such lease."""
        code, text = refusal(lambda: peer.create("blank", selector=" "))
        rule = 'spec: Invalid value: "object": one of selector or exporterRef.name is required'
        assert (code, text) == ("UNKNOWN", f'Lease.jumpstarter.dev "blank" is invalid: {rule}')

    def test_free_exporter(self, peer: Peer) -> None:
        """A lease of a free exporter is Ready when somebody first looks at it."""
        created = peer.create(exporter_name="board-2")
        assert not created.conditions
        assert [(it.type, it.status) for it in peer.lease(created.name).conditions] == [("Ready", "True")]

    def test_scheduled(self, peer: Peer) -> None:
        """A lease that begins later has no conditions until then."""
        lease = peer.create(selector="kind=none-such", begin_time=at(3600))
        marker = peer.create(selector="kind=none-such")
        peer.await_condition(marker.name, "Unsatisfiable", "True", "NoAccess")
        assert not peer.lease(lease.name).conditions


def test_hand_over(peer: Peer, other: Peer, exporter: ManualExporter) -> None:
    """
    A lease that waits is looked at again a second later, and until then shows NotAvailable although the board is free.

    Production took 0.6 to 1.1 s from the end of one lease to the next, whose request came just before that end.
    """
    first = peer.await_condition(peer.create(selector="kind=solo").name, "Ready", "True", "Ready")
    asked = time.monotonic()
    second = other.create(selector="kind=solo")
    other.await_condition(second.name, "Pending", "True", "NotAvailable")
    peer.delete(first.name)
    peer.await_condition(first.name, "Ready", "False", "Released")
    ended = time.monotonic()
    seen: set[tuple[str, str]] = set()

    def is_ready() -> bool:
        before = time.monotonic()
        found = {(it.type, it.reason) for it in other.lease(second.name).conditions if it.status == "True"}
        if ("Ready", "Ready") in found:
            return True
        if before < asked + 1.0:
            seen.update(found)
        return False

    wait_for(is_ready, "the hand-over")
    ready = time.monotonic()
    assert ready - asked >= 1.0
    assert seen <= {("Pending", "NotAvailable")}
    assert seen or ended > asked + 0.9, "a busy machine looks too late"
    assert ready - ended < 2.2


class TestListLeases:
    """ListLeases."""

    def test_of_all_clients(self, peer: Peer, other: Peer) -> None:
        """The leases of all clients are listed to each of them."""
        lease = other.create(selector=NOBODY)
        assert lease.name in listed_leases(peer)

    def test_filter_by_match_labels(self, peer: Peer, name: str) -> None:
        """A filter sees the plain equalities of a lease's selector, and nothing else of it."""
        lease = peer.create(selector=f"kind=never-seen,run={name},slot in (1,2)")
        assert listed_leases(peer, filter=f"run={name}", only_active=False) == [lease.name]
        assert listed_leases(peer, filter=f"run={name},slot", only_active=False) == []

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

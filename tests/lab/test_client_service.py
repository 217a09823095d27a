"""Codes and texts of the client service, as a client without any library gets them."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.lab import Lab

from .peers import ManualExporter, Metadata, Peer, refusal

LEASES = "namespaces/lab/leases"
ALL = ["board-1", "board-2", "ext-1", "ext-2", "fresh-1", "off-1", "solo-1"]
NOBODY = "kind=never-seen"  # an exporter that is there but never comes: leases stay pending


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

    @pytest.mark.parametrize("odd", ["ünïcode-☃", "x" * 5000, "a b"])
    def test_odd(self, peer: Peer, odd: str) -> None:
        """A name that nothing can have is not found."""
        code, text = refusal(lambda: peer.lease(f"{LEASES}/{odd}"))
        assert code == "UNKNOWN"
        assert text.startswith(f'leases.jumpstarter.dev "{odd}'[:400])

    @pytest.mark.parametrize(
        ("odd", "text"),
        [
            ("..", "invalid resource name \"..\": [may not be '..']"),
            ("%2e%2e", "invalid resource name \"%2e%2e\": [may not contain '%']"),
            ("", "resource name may not be empty"),
        ],
    )
    def test_no_path(self, peer: Peer, odd: str, text: str) -> None:
        """A name that cannot be in the path of an object is refused."""
        assert refusal(lambda: peer.lease(f"{LEASES}/{odd}")) == ("UNKNOWN", text)

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
        assert (code, text[:51]) == ("UNKNOWN", "invalid continue token: continue key is not valid: ")


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

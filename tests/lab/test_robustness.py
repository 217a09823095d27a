"""Odd, huge and hostile peers: the lab answers or refuses, and goes on."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

from pytest_jumpstarter.lab import Lab

from .peers import TIMEOUT, ManualExporter, Peer, at, refusal, wait_for

MANY = 10_000


@pytest.fixture
def well(peer: Peer) -> Iterator[None]:
    """Fail if the lab does not answer after the test."""
    yield
    assert peer.exporter("board-1").online


@pytest.mark.usefixtures("well")
class TestRequests:
    """Requests of every size and kind."""

    def test_huge_selector(self, peer: Peer) -> None:
        """A selector of nearly 4 MiB is refused with a text that fits."""
        code, text = refusal(lambda: peer.create(selector="x" * 4 * 1024 * 1000))
        assert code == "UNKNOWN"
        assert len(text) < 2000

    def test_huge_name(self, peer: Peer) -> None:
        """A name of nearly 4 MiB is refused with a text that fits."""
        code, text = refusal(lambda: peer.lease("☃" * (4 * 1024 * 1000 // 3)))
        assert code == "INVALID_ARGUMENT"
        assert len(text) < 2000

    def test_huge_status(self, exporter: ManualExporter, peer: Peer) -> None:
        """A status message of 3 MiB is kept, and clients get it."""
        exporter.report("AVAILABLE", "x" * 3 * 1024 * 1024)
        assert len(peer.exporter("solo-1").status_message) == 3 * 1024 * 1024
        exporter.report("AVAILABLE")

    def test_garbage(self, peer: Peer) -> None:
        """Bytes that are no message are an error."""
        method: Any = peer.channel.unary_unary("/jumpstarter.client.v1.ClientService/GetLease")
        answer = refusal(lambda: peer.call(method, b"\xff" * 100))
        assert answer[0] == "INTERNAL"

    def test_too_large(self, peer: Peer) -> None:
        """A request of more than 4 MiB is refused before it is read."""
        assert refusal(lambda: peer.lease("x" * 5 * 1024 * 1024))[0] == "RESOURCE_EXHAUSTED"

    @pytest.mark.parametrize("odd", ["../x", "a/b", "", "☃", "\n", "x" * 100_000])
    def test_odd_exporter_name(self, peer: Peer, odd: str) -> None:
        """An exporter's name that nothing can have gives no exporter."""
        refused = refusal(lambda: peer.call(peer.clients.GetExporter, exporter_request(odd)))
        assert refused[0] in ("UNKNOWN", "INVALID_ARGUMENT")
        if odd:
            lease = peer.create(exporter_name=odd)
            peer.await_condition(lease.name, "Unsatisfiable", "True", "ExporterNotFound")

    def test_status_out_of_range(self, peer: Peer, exporter: ManualExporter) -> None:
        """A status from the future counts as none."""
        request = jumpstarter_pb2.ReportStatusRequest()
        request.status = 99
        exporter.call(exporter.controller.ReportStatus, request)
        assert peer.exporter("solo-1").status == 0
        exporter.report("AVAILABLE")


def exporter_request(name: str) -> client_pb2.GetExporterRequest:
    """Ask for an exporter."""
    return client_pb2.GetExporterRequest(name=f"namespaces/lab/exporters/{name}")


@pytest.mark.usefixtures("well")
class TestConnections:
    """Connections that do not behave."""

    def test_plaintext(self, lab: Lab) -> None:
        """A peer that speaks no TLS is cut off."""
        host, _, port = lab.endpoint.partition(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                return

    def test_handshake_and_gone(self, lab: Lab, peer: Peer) -> None:
        """A TLS handshake without ALPN shows the whole chain, as clients that trust on first use need it."""
        host, _, port = lab.endpoint.partition(":")
        context = ssl.create_default_context(cadata=peer.roots.decode())
        with (
            socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            assert secured.version() in ("TLSv1.2", "TLSv1.3")

    def test_client_is_killed(self, lab: Lab, peer: Peer) -> None:
        """A client that is killed while it dials leaves its lease, which its owner can still release."""
        with ManualExporter(lab.config_dir / "exporters" / "ext-1.yaml") as exporter:
            exporter.join()
            code = (
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
                "from pathlib import Path; from peers import Peer;"
                f"peer = Peer(Path({str(lab.client_config)!r}));"
                "lease = peer.create(selector='kind=manual');"
                "peer.await_condition(lease.name, 'Ready', 'True', 'Ready');"
                "print(lease.name, flush=True);"
                "peer.dial(lease.name.rpartition('/')[2], timeout=600)"
            )
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                name = client.stdout.readline().strip()
                client.kill()
            assert exporter.status.next().leased
            assert peer.lease(name).conditions[-1].reason == "Ready"
            peer.delete(name)
            assert not exporter.status.next().leased

    def test_exporter_vanishes(self, lab: Lab, peer: Peer) -> None:
        """An exporter whose connection breaks and comes back is told where it stands."""
        config = lab.config_dir / "exporters" / "ext-2.yaml"
        first = ManualExporter(config)
        first.join()
        lease = peer.await_condition(peer.create(exporter_name="ext-2").name, "Ready", "True", "Ready")
        first.channel.close()
        peer.delete(lease.name)
        peer.await_condition(lease.name, "Ready", "False", "Released")
        with ManualExporter(config) as second:
            assert second.watch().next().leased is False
            second.report("AVAILABLE")
            second_lease = peer.create(exporter_name="ext-2")
            peer.await_condition(second_lease.name, "Ready", "True", "Ready")

    def test_frequent_pings(self, peer: Peer) -> None:
        """A client that pings as often as it may is not sent away."""
        options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
        options += [("grpc.http2.max_pings_without_data", 0), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(peer.endpoint, grpc.ssl_channel_credentials(peer.roots), options) as channel:
            states: list[grpc.ChannelConnectivity] = []
            channel.subscribe(states.append, try_to_connect=True)
            wait_for(lambda: grpc.ChannelConnectivity.READY in states, "a connection")
            lease = peer.create(selector="kind=never-seen", duration=600)
            marker = peer.create(exporter_name="none-such", begin_time=at(4))
            peer.await_condition(marker.name, "Unsatisfiable", "True", "ExporterNotFound")  # four pings later
            assert states[-1] is grpc.ChannelConnectivity.READY
            peer.delete(lease.name)


def test_ten_thousand(lab_file: Callable[[str], Path]) -> None:
    """Ten thousand exporters are listed at once, page by page, and selected from."""
    documents = [
        {"metadata": {"name": f"bench-{number:05}", "labels": {"rack": str(number // 100), "odd": "A_.-9"}}}
        for number in range(MANY)
    ]
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with Lab([lab_file(yaml.dump_all(documents, Dumper=dumper))]) as lab, Peer(lab.client_config) as peer:
        request = client_pb2.ListExportersRequest(parent="namespaces/lab")
        assert len(peer.call(peer.clients.ListExporters, request).exporters) == MANY
        request.page_size = 3000
        names: list[str] = []
        for _ in range(4):
            page = peer.call(peer.clients.ListExporters, request)
            names += [exporter.name for exporter in page.exporters]
            request.page_token = page.next_page_token
        assert (len(names), request.page_token) == (MANY, "")
        assert names == sorted(names)
        lease = peer.create(selector="rack=42")
        lease = peer.await_condition(lease.name, "Pending", "True", "Offline")
        assert lease.conditions[0].message.startswith("While there are 100 available exporters (i.e. )")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc to count open files in")
@pytest.mark.usefixtures("well")
def test_no_leak(lab: Lab, peer: Peer) -> None:
    """Clients that come and go leave no open file in the lab."""

    def open_files() -> int:
        return len(os.listdir(f"/proc/{lab.pid}/fd"))

    def come_and_go() -> None:
        with Peer(lab.client_config) as passing:
            passing.exporter("board-1")

    come_and_go()
    before = open_files()
    for _ in range(20):
        come_and_go()
    wait_for(lambda: open_files() <= before, f"{before} open files again")

"""The way to an endpoint: certificates, proxies, channel options, and what is said when there is none."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Iterator

import grpc
import pytest
import trustme
from google.protobuf.empty_pb2 import Empty

from pytest_jumpstarter.client.v1 import Client, Proxy, Tls, channel_options
from pytest_jumpstarter.client.v1.tls import certificate_of, is_loopback
from pytest_jumpstarter.errors import ClientConfigError, ControllerUnreachable

from .controller import TOKEN, Controller, serve


def connect(endpoint: str, *, ca: bytes | None = None, insecure_tls: bool = False) -> Client:
    """Return a client of an endpoint."""
    return Client(
        endpoint,
        token=TOKEN,
        namespace="lab",
        name="ci",
        ca=ca,
        insecure_tls=insecure_tls,
        source="client config c.yaml",
    )


def failure(endpoint: str, *, ca: bytes | None = None, insecure_tls: bool = False) -> str:
    """Return what is said when nothing is reached there."""
    with connect(endpoint, ca=ca, insecure_tls=insecure_tls) as client, pytest.raises(ControllerUnreachable) as caught:
        client.delete_lease("x")
    assert isinstance(caught.value, ConnectionError)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def dead() -> Iterator[str]:
    """Return an endpoint on loopback where nothing listens, kept from others while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def test_refused(dead: str) -> None:
    """A refused connection is called that, with the endpoint and where it came from."""
    said = failure(dead)
    assert f"DeleteLease at {dead}: the connection was refused" in said
    assert "client config c.yaml" in said


def test_no_such_host() -> None:
    """A host name that nobody knows is called that."""
    assert "the host name no-such-host.invalid cannot be resolved" in failure("no-such-host.invalid:8082")


def test_server_that_resets_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that resets the connection before the handshake leaves no open socket behind."""
    connect = socket.create_connection

    def connect_and_wait(address: tuple[str, int], timeout: float) -> socket.socket:
        connection = connect(address, timeout)
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
        peer.close()
        select.select([connection], [], [], 10)
        return connection

    monkeypatch.setattr(socket, "create_connection", connect_and_wait)
    monkeypatch.setattr(ssl.SSLContext, "sslsocket_class", ssl.SSLSocket)  # Python's own: the conftest has replaced it
    with socket.create_server(("127.0.0.1", 0)) as listener, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(OSError, match=r"reset|not connected|EOF"):
            certificate_of(f"127.0.0.1:{listener.getsockname()[1]}", 10)
        gc.collect()
    assert [str(each.message) for each in caught] == []


def test_certificate_for_another_host(authority: trustme.CA) -> None:
    """A certificate for another host is called that, with the host that was asked for."""
    with serve(authority, "board.example") as controller:
        said = failure(controller.endpoint, ca=controller.ca)
    assert "its TLS certificate is for another host than 127.0.0.1" in said
    assert "have 127.0.0.1 added to the certificate" in said


@pytest.mark.parametrize("trusted", ["system", "other"])
def test_certificate_of_a_stranger(controller: Controller, trusted: str) -> None:
    """A certificate that no trusted CA signed is called that, and tls.ca is named."""
    said = failure(controller.endpoint, ca=None if trusted == "system" else trustme.CA().cert_pem.bytes())
    assert "its TLS certificate is not trusted" in said
    assert "tls.ca of client config c.yaml" in said


def test_no_tls_there() -> None:
    """A server without TLS is called that."""
    from concurrent import futures

    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert "the server at this address does not use TLS" in failure(f"127.0.0.1:{port}")
    finally:
        server.stop(0).wait(10)


def test_first_certificate_is_trusted_when_asked(controller: Controller) -> None:
    """Insecure TLS works with a certificate that nobody signed for us, and warns."""
    controller.answers["DeleteLease"] = lambda message, context: Empty()
    with (
        connect(controller.endpoint, insecure_tls=True) as client,
        pytest.warns(UserWarning, match="trusts the first certificate that the server sends"),
    ):
        client.delete_lease("x")
    assert controller.methods() == ["DeleteLease"]


def test_first_certificate_must_still_fit_the_host(authority: trustme.CA) -> None:
    """Insecure TLS does not mean any host."""
    with serve(authority, "board.example") as controller, pytest.warns(UserWarning, match="first"):
        assert "is for another host than 127.0.0.1" in failure(controller.endpoint, insecure_tls=True)


def test_no_first_certificate(dead: str) -> None:
    """Insecure TLS to where nothing listens says so."""
    with pytest.warns(UserWarning, match="first"):
        assert f"cannot get the TLS certificate of {dead}" in failure(dead, insecure_tls=True)


def test_no_first_certificate_in_time() -> None:
    """A server that accepts and says nothing is given up after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.warns(UserWarning, match="first"), pytest.raises(ControllerUnreachable, match="timed out"):
            Tls(insecure=True).credentials(endpoint, timeout=0.2)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_loopback_never_goes_through_a_proxy(
    client: Client, controller: Controller, dead: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A dead proxy in the environment does not keep us from a lab on this machine."""
    monkeypatch.setenv(variable, f"http://{dead}")
    controller.answers["DeleteLease"] = lambda message, context: Empty()
    client.delete_lease("x")
    assert controller.methods() == ["DeleteLease"]


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_dead_proxy_is_named(dead: str, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """To elsewhere, the error names the proxy and its variable, and not the password in it."""
    monkeypatch.setenv(variable, f"http://user:hunter2@{dead}")
    said = failure("lab.example.invalid:8082")
    assert (
        f"DeleteLease at lab.example.invalid:8082 through proxy http://{dead} ({variable} in the environment)" in said
    )
    assert "the connection was refused" in said
    assert "hunter2" not in said


def test_a_proxy_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy whose name cannot be resolved is the name that is called so."""
    monkeypatch.setenv("https_proxy", "http://no-such-proxy.invalid:3128")
    assert "the host name no-such-proxy.invalid cannot be resolved" in failure("lab.example.invalid:8082")


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers no is called that."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        thread = threading.Thread(target=refuse_one, args=[proxy])
        thread.start()
        assert "the proxy does not let the connection through" in failure("lab.example.invalid:8082")
        thread.join(10)


def refuse_one(proxy: socket.socket) -> None:
    """Answer one connection as a proxy that does not allow it."""
    proxy.settimeout(10)
    connection, _ = proxy.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("environ", "endpoint", "variable"),
    [
        ({"https_proxy": "http://p:1"}, "lab.example:1", "https_proxy"),
        ({"http_proxy": "http://p:1", "https_proxy": "http://q:1"}, "lab.example:1", "https_proxy"),
        ({"grpc_proxy": "http://p:1", "https_proxy": "http://q:1"}, "lab.example:1", "grpc_proxy"),
        ({"HTTPS_PROXY": "http://p:1"}, "lab.example:1", None),  # gRPC reads no upper-case names
        ({"https_proxy": ""}, "lab.example:1", None),
        ({"https_proxy": "", "http_proxy": "http://p:1"}, "lab.example:1", None),
        ({"https_proxy": "https://p:1"}, "lab.example:1", None),
        ({"https_proxy": "p:1"}, "lab.example:1", None),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, "lab.example:1", "https_proxy"),
        ({"https_proxy": "http://p:1", "no_grpc_proxy": "", "no_proxy": "example"}, "lab.example:1", "https_proxy"),
        ({"https_proxy": "http://p:1"}, "127.0.0.1:1", None),
        ({"https_proxy": "http://p:1"}, "localhost:1", None),
        ({"https_proxy": "http://p:1", "no_proxy": "foo, example"}, "lab.example:1", None),
        ({"https_proxy": "http://p:1", "no_proxy": "other"}, "lab.example:1", "https_proxy"),
        ({"https_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:1", None),
        ({"https_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "11.1.2.3:1", "https_proxy"),
        (
            {"https_proxy": "http://p:1", "no_grpc_proxy": "other", "no_proxy": "example"},
            "lab.example:1",
            "https_proxy",
        ),
    ],
)
def test_proxy_in_force(environ: dict[str, str], endpoint: str, variable: str | None) -> None:
    """The proxy in force is found by gRPC's own rules."""
    proxy = Proxy.in_force(endpoint, environ=environ)
    assert (proxy.variable if proxy else None) == variable


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        *((host, True) for host in ("127.0.0.1:1", "127.8.8.8:1", "localhost:1", "LOCALHOST:1", "[::1]:1")),
        *((host, False) for host in ("lab.example:1", "10.0.0.1:1", "localhost.localdomain:1", "[fe80::1]:1")),
    ],
)
def test_loopback(endpoint: str, expected: bool) -> None:
    """Loopback is told by the name alone; nothing is resolved."""
    assert is_loopback(endpoint) is expected
    assert (("grpc.enable_http_proxy", 0) in channel_options(endpoint)) is expected


@pytest.mark.parametrize(
    "endpoint",
    ["", ":1", "https://lab:1", "lab:port", "lab:99999999", "lab:0", "a b:1", "lab:1/path", "user@lab:1", "[::1"],
)
def test_no_endpoint(endpoint: str) -> None:
    """What is not HOST:PORT is a configuration error, seen before anything is connected."""
    with pytest.raises(ClientConfigError, match="is not HOST:PORT"):
        connect(endpoint)


def test_options_of_the_config_win() -> None:
    """The grpcOptions of the client config override ours and add to them."""
    options = dict(channel_options("h:1", grpc_options={"grpc.keepalive_time_ms": 5, "grpc.x": "y"}))
    assert (options["grpc.keepalive_time_ms"], options["grpc.x"]) == (5, "y")
    assert options["grpc.keepalive_permit_without_calls"] == 1

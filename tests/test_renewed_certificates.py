"""With insecure TLS, a server may renew its certificate while a board is leased."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import trustme
from client.controller import TOKEN, serve
from google.protobuf.empty_pb2 import Empty
from jumpstarter_protocol import router_pb2
from runs import until
from test_tunnel import PATIENCE, held_endpoint

from pytest_jumpstarter.client.v1 import Client, Route, Tls, channel_options
from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel
from pytest_jumpstarter.errors import ControllerUnreachable

pytestmark = pytest.mark.filterwarnings("ignore:TLS to .* trusts the first certificate")


def client_of(endpoint: str, *, insecure: bool = True, ca: bytes | None = None) -> Client:
    """Return a client with insecure TLS."""
    return Client(endpoint, token=TOKEN, namespace="lab", name="ci", ca=ca, insecure_tls=insecure)


def is_answered(client: Client, lease: str) -> bool:
    """Return whether a call is answered; until gRPC connects again, it is refused as while nobody listened."""
    try:
        client.delete_lease(lease)
    except ControllerUnreachable as exc:
        if "the connection was refused" not in str(exc):
            raise
        return False
    return True


def test_lab_controller_renews() -> None:
    """The client goes on with the new certificate: no call fails, and the warning names the endpoint again."""
    held, endpoint = held_endpoint()
    port = int(endpoint.rpartition(":")[2])
    with held, client_of(endpoint) as client:
        for _ in range(3):
            with serve(trustme.CA(), port=port) as controller, warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                controller.answers["DeleteLease"] = lambda *_: Empty()
                until(lambda: is_answered(client, "a"), timeout=PATIENCE)
                client.delete_lease("b")
                assert controller.methods() == ["DeleteLease", "DeleteLease"]
                assert [f"TLS to {endpoint} trusts" in str(each.message) for each in told] == [True]


def test_secure_client_stays_secure() -> None:
    """Without insecure TLS, a certificate of another authority is refused, as before."""
    held, endpoint = held_endpoint()
    port, authority = int(endpoint.rpartition(":")[2]), trustme.CA()
    with held, client_of(endpoint, insecure=False, ca=authority.cert_pem.bytes()) as client:
        with serve(authority, port=port) as controller:
            controller.answers["DeleteLease"] = lambda *_: Empty()
            client.delete_lease("a")
        with serve(trustme.CA(), port=port), pytest.raises(ControllerUnreachable, match="certificate is not trusted"):
            until(lambda: is_answered(client, "b"), timeout=PATIENCE)


@asynccontextmanager
async def echoing_router(endpoint: str) -> AsyncIterator[None]:
    """Serve a router with a new certificate, which sends back what it gets."""

    async def echo(requests: AsyncIterator[router_pb2.StreamRequest], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield router_pb2.StreamResponse(payload=request.payload)

    method = grpc.stream_stream_rpc_method_handler(
        echo,
        request_deserializer=router_pb2.StreamRequest.FromString,
        response_serializer=router_pb2.StreamResponse.SerializeToString,
    )
    certificate = trustme.CA().issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = grpc.aio.server()
    service = grpc.method_handlers_generic_handler("jumpstarter.v1.RouterService", {"Stream": method})
    server.add_generic_rpc_handlers((service,))
    server.add_secure_port(endpoint, grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)]))
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


def test_router_renews() -> None:
    """A connection to the exporter is opened through a router with a new certificate."""
    held, endpoint = held_endpoint()

    def credentials(endpoint: str) -> grpc.ChannelCredentials:
        return Tls(insecure=True).credentials(endpoint)

    async def scenario() -> None:
        tunnel = Tunnel(lambda _: Route(endpoint=endpoint, token="t"), RouterChannels(credentials, channel_options))
        path = await tunnel.open()
        for _ in range(2):
            async with asyncio.timeout(PATIENCE), echoing_router(endpoint):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"x")
                assert await reader.read(1) == b"x"
                writer.close()
        await tunnel.close()

    with held:
        asyncio.run(scenario())

"""One gRPC server for controller and router: with TLS, on loopback, and with limits that suit its peers."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from jumpstarter_protocol import client_pb2_grpc, jumpstarter_pb2_grpc

from pytest_jumpstarter.lab.access import Access
from pytest_jumpstarter.lab.authority import Authority
from pytest_jumpstarter.lab.client_service import ClientService
from pytest_jumpstarter.lab.controller_service import ControllerService
from pytest_jumpstarter.lab.model import Model
from pytest_jumpstarter.lab.refusal import BrokenRequests
from pytest_jumpstarter.lab.router import Router
from pytest_jumpstarter.lab.scheduler import OFFLINE_AFTER, Scheduler

HOST = "127.0.0.1"

_LARGEST_REQUEST_BYTES = 4 * 1024 * 1024  # as in production: the default of gRPC in Go
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    # Clients ping every 20 s even without calls; by default gRPC would answer GOAWAY too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", _LARGEST_REQUEST_BYTES),
    ("grpc.max_send_message_length", _LARGEST_ANSWER_BYTES),
    ("grpc.so_reuseport", 0),
)


class Server:
    """
    Serves the state of one lab.

    Attributes:
        endpoint: `host:port` for clients, exporters and tunnels; set by `start`.
        model: The state of the lab.
        authority: Its certificates and tokens.
    """

    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()

    def __init__(
        self, model: Model, authority: Authority, *, assign_delay: float = 0.0, offline_after: float = OFFLINE_AFTER
    ) -> None:
        self.endpoint = ""
        self.model = model
        self.authority = authority
        self._router = router = Router(authority)
        self._scheduler = Scheduler(
            model,
            on_end=lambda lease: router.release(lease.name),
            assign_delay=assign_delay,
            offline_after=offline_after,
        )
        access = Access(model, authority)
        self._client_service = ClientService(model, self._scheduler, access, authority)
        self._controller_service = ControllerService(  # type: ignore[abstract]  # the rest are UNIMPLEMENTED
            model, self._scheduler, access, router
        )

    async def start(self, *, port: int = 0) -> None:
        """Listen on `port`; 0: any free port."""
        self._server = grpc.aio.server(interceptors=[*self.interceptors, BrokenRequests()], options=_OPTIONS)
        client_pb2_grpc.add_ClientServiceServicer_to_server(self._client_service, self._server)
        jumpstarter_pb2_grpc.add_ControllerServiceServicer_to_server(self._controller_service, self._server)
        self._server.add_generic_rpc_handlers((self._router,))
        await self._serve_health()
        credentials = grpc.ssl_server_credentials([(self.authority.keys.server, self.authority.keys.chain)])
        bound = self._server.add_secure_port(f"{HOST}:{port}", credentials)
        self.endpoint = self._router.endpoint = f"{HOST}:{bound}"
        await self._server.start()

    async def _serve_health(self) -> None:
        """Serve `grpc.health.v1`, which a probe asks without a token."""
        servicer = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """End all calls and close the port."""
        await self._server.stop(grace=0)

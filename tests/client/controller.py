"""
A lab controller that says what it is told to, over real gRPC and TLS.

For statuses and shapes that no real lab controller gives on demand; everything else is tested against the lab.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import trustme
from google.protobuf.message import Message

from pytest_jumpstarter.client.v1.service import descriptors, grpc_path, message_class

TOKEN = "eyJhbGciOiJub25lIn0.dGhlLXNlY3JldA.c2lnbmF0dXJl"

Answer = Callable[[Any, grpc.ServicerContext], Message]


@dataclass
class Call:
    """One call as it arrived."""

    method: str
    message: Any
    metadata: dict[str, str | bytes]


@dataclass
class Controller:
    """The answers to give, and the calls that came."""

    endpoint: str
    ca: bytes
    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end: what an answer may wait for."""

    def refuse(self, method: str, code: grpc.StatusCode, details: str = "") -> None:
        """Answer a method with a status."""

        def answer(message: Any, context: grpc.ServicerContext) -> Message:
            context.abort(code, details)

        self.answers[method] = answer

    def methods(self) -> list[str]:
        """Return the names of the calls that came."""
        return [call.method for call in self.calls]


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._methods = {grpc_path(descriptor): descriptor for descriptor in descriptors().values()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        descriptor = self._methods.get(details.method)
        answer = self._controller.answers.get(descriptor.name) if descriptor else None
        if descriptor is None or answer is None:
            return None

        def handle(message: Any, context: grpc.ServicerContext) -> Message:
            metadata = dict(context.invocation_metadata())
            self._controller.calls.append(Call(descriptor.name, message, metadata))
            return answer(message, context)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=message_class(descriptor.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


@contextmanager
def serve(authority: trustme.CA, *hosts: str, port: int = 0) -> Iterator[Controller]:
    """Run a lab controller on a port of 127.0.0.1 (0: a free one), with a certificate for `hosts`."""
    certificate = authority.issue_cert(*(hosts or ("127.0.0.1", "localhost")))
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    port = server.add_secure_port(
        f"127.0.0.1:{port}", grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    )
    controller = Controller(endpoint=f"127.0.0.1:{port}", ca=authority.cert_pem.bytes())
    server.add_generic_rpc_handlers([_Handler(controller)])
    server.start()
    try:
        yield controller
    finally:
        controller.released.set()
        server.stop(0).wait(10)

"""The channel to a lab controller: it is opened at the first call, and the token is added to each call."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, cast

import grpc

from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import Response
from pytest_jumpstarter.client.v1.secret import Secret, Token
from pytest_jumpstarter.client.v1.service import grpc_path, message_class
from pytest_jumpstarter.client.v1.tls import UNTRUSTED, Proxy, Tls, channel_options, first_certificate
from pytest_jumpstarter.errors import ClientConfigError, ControllerUnreachable
from pytest_jumpstarter.host import real_time


class ControllerConnection:
    """
    The connection of one client to one lab controller; safe to use from several threads.

    Attributes:
        token: The bearer token; it may be replaced between calls.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str,
        namespace: str,
        name: str,
        tls: Tls,
        grpc_options: Mapping[str, str | int] | None,
        source: str,
    ) -> None:
        self.endpoint = endpoint
        self.source = source
        self.token = token
        self._identity = (
            ("jumpstarter-kind", "Client"),
            ("jumpstarter-namespace", _checked("namespace", namespace, source)),
            ("jumpstarter-name", _checked("name", name, source)),
        )
        self._tls = tls
        self._options = channel_options(endpoint, grpc_options=grpc_options)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._interrupted: list[grpc.Channel] = []  # kept, so that they are not closed
        self._proxy: Proxy | None = None
        self._roots: bytes | None = None
        self._closed = threading.Event()

    @property
    def token(self) -> str:
        """The bearer token, whose repr is `***`."""
        return self._token

    @token.setter
    def token(self, token: str) -> None:
        token = Token(token)
        # gRPC would refuse such metadata too, in a message that quotes it.
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ClientConfigError(f"the token from {self.source} must be printable ASCII without spaces")
        self._token = token

    def call(self, request: Request, *, timeout: float) -> Response:
        """
        Send a request once and return the answer, whatever its status.

        With insecure TLS, a certificate that the server has renewed is trusted too.

        Raises:
            ControllerUnreachable: Insecure TLS was asked for, and the server sends no certificate.
        """
        channel = self._open(timeout)
        response = self._send(channel, request, timeout)
        left = timeout - response.elapsed
        if self._tls.insecure and UNTRUSTED in response.details and left > 0 and self._is_renewed(channel, left):
            return self._send(self._open(left), request, left)
        return response

    def _send(self, channel: grpc.Channel, request: Request, timeout: float) -> Response:
        method = channel.unary_unary(
            grpc_path(request.descriptor),
            request_serializer=message_class(request.descriptor.input_type).SerializeToString,
            response_deserializer=message_class(request.descriptor.output_type).FromString,
        )
        token = self.token
        headers = (*self._identity, *request.headers.items(), ("authorization", Secret(f"Bearer {token}")))
        start = real_time.monotonic()
        try:
            body, call = method.with_call(request.body, timeout=timeout, metadata=headers)
        except grpc.RpcError as error:
            body, call = None, cast(grpc.Call, error)  # a channel raises the call itself as the error
        except BaseException:
            self._give_up(channel)
            raise
        return Response(
            request=request,
            endpoint=self.endpoint,
            code=call.code(),
            details=_without(token, call.details() or ""),
            headers=_mapping(call.initial_metadata()),
            trailers=_mapping(call.trailing_metadata()),
            body=body,
            elapsed=real_time.monotonic() - start,
            proxy=self._proxy,
            source=self.source,
        )

    def wait_closed(self, timeout: float) -> bool:
        """Wait `timeout` seconds, or until the connection is closed; return whether it was closed."""
        return self._closed.wait(timeout)

    def renew(self) -> None:
        """
        Use another channel for later calls, because a call in another thread may be interrupted.

        If a signal handler raises an exception during a call, gRPC may keep a lock of the channel: then all later calls
        would hang, and so would closing it.
        """
        with self._lock:
            channel = self._channel
        if channel is not None:
            self._give_up(channel)

    def _is_renewed(self, channel: grpc.Channel, timeout: float) -> bool:
        """Return whether the server has another certificate than the one that `channel` trusts; give that up if so."""
        try:
            certificate = first_certificate(self.endpoint, min(timeout, 5.0))
        except ControllerUnreachable:
            return False
        with self._lock:
            if self._closed.is_set():
                return False
            if self._channel is not channel:
                return True  # another thread gave it up
            if certificate == self._roots:
                return False
        self._give_up(channel)
        return True

    def _give_up(self, channel: grpc.Channel) -> None:
        """Do not use a channel again, and do not close it; see `renew`."""
        with self._lock:
            self._interrupted.append(channel)
            if self._channel is channel:
                self._channel = None

    def close(self) -> None:
        """Cancel running calls; later calls raise an error."""
        self._closed.set()
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open(self, timeout: float) -> grpc.Channel:
        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("the client is closed")
            if self._channel is None:
                self._proxy = Proxy.in_force(self.endpoint)
                self._roots = self._tls.roots(self.endpoint, timeout=min(timeout, 5.0))
                credentials = grpc.ssl_channel_credentials(self._roots)
                self._channel = grpc.secure_channel(self.endpoint, credentials, options=self._options)
            return self._channel


def _checked(what: str, text: str, source: str) -> str:
    if not text or not text.isascii() or not text.isprintable():
        raise ClientConfigError(f"the client's {what} from {source} must be printable ASCII, not {text!r}")
    return text


def _without(token: str, text: str) -> str:
    """Return a text of the server without our token, if it quotes it; a shorter text than this is not a token."""
    return text.replace(token, "***") if len(token) >= 16 else text


def _mapping(metadata: Iterable[Any] | None) -> dict[str, str | bytes]:
    """Return metadata as a mapping; if a key occurs more than once, its last value counts."""
    return dict(metadata or ())

"""
`ChannelTarget`: where an exporter is reached by gRPC, for channels in the event loop and for blocking ones.

Source: jumpstarter.client.client_from_path, jumpstarter.exporter.auth (the key of the passphrase)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import grpc
import grpc.aio

from pytest_jumpstarter.client.v1.tls import LONG_ERRORS

# The next call dials a broken tunnel again, so a long wait before reconnecting would not help.
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    *LONG_ERRORS.items(),
]

_PASSPHRASE_KEY = "x-jumpstarter-passphrase"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTarget:
    """
    Where an exporter is reached, and how.

    Attributes:
        address: The target of a gRPC channel: `HOST:PORT`, or `unix:PATH`.
        credentials: For TLS, or for a socket; None for plain text.
        options: Of each channel.
        passphrase: What the exporter wants with each call; empty if nothing.
    """

    address: str
    credentials: grpc.ChannelCredentials | None
    options: Sequence[tuple[str, str | int]]
    passphrase: str = ""

    @classmethod
    def of_socket(cls, path: str) -> ChannelTarget:
        """Return the target of a unix socket on this machine."""
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        return cls(address=f"unix:{path}", credentials=credentials, options=_OPTIONS)

    def apart(self) -> ChannelTarget:
        """Return the same target for channels that share no connection with others."""
        return replace(self, options=[*self.options, ("grpc.use_local_subchannel_pool", 1)])

    def aio_channel(self) -> grpc.aio.Channel:
        """Return a channel of the event loop that runs."""
        interceptors = None
        if self.passphrase:
            from pytest_jumpstarter.jumpstarter_private import passphrase_client_interceptors  # loads the exporter

            interceptors = passphrase_client_interceptors(self.passphrase)
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, options=self.options, interceptors=interceptors)
        return grpc.aio.secure_channel(self.address, self.credentials, options=self.options, interceptors=interceptors)

    def blocking_channel(self) -> grpc.Channel:
        """Return a channel whose calls block their thread."""
        if self.credentials is None:
            channel = grpc.insecure_channel(self.address, options=self.options)
        else:
            channel = grpc.secure_channel(self.address, self.credentials, options=self.options)
        return grpc.intercept_channel(channel, _Passphrase(self.passphrase)) if self.passphrase else channel


class _Passphrase(grpc.UnaryUnaryClientInterceptor):
    """Sends the passphrase with each call of a blocking channel; Jumpstarter has this for the event loop only."""

    def __init__(self, passphrase: str) -> None:
        self._metadata = (_PASSPHRASE_KEY, passphrase)

    def intercept_unary_unary(
        self, continuation: Callable[[grpc.ClientCallDetails, Any], Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Make the call with the passphrase among its metadata."""
        metadata = [*(details.metadata or ()), self._metadata]
        call = _Details(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, None)
        return continuation(cast(grpc.ClientCallDetails, call), request)


class _Details(NamedTuple):
    """The description of a call, as gRPC wants it from an interceptor."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None

"""Certificates, channel options and proxies for connections to lab controllers and routers."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc

from pytest_jumpstarter.errors import ClientConfigError, ControllerUnreachable

_MESSAGE_BYTES = 64 * 1024 * 1024

# Keepalive as in Jumpstarter's own clients: load balancers drop connections that are silent for longer, and the lab
# controller tolerates it. After a restart of the controller we reconnect within 2 s; gRPC's default is up to 120 s.
LONG_ERRORS: Mapping[str, int] = {
    "grpc.max_metadata_size": 16 * 1024 * 1024,
    "grpc.absolute_max_metadata_size": 16 * 1024 * 1024,
}
"""Options of a channel that receives long errors whole: by default, gRPC drops those of more than 8 to 16 KiB."""

_DEFAULTS: Mapping[str, str | int] = {
    **LONG_ERRORS,
    "grpc.lb_policy_name": "round_robin",
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 180_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.max_receive_message_length": _MESSAGE_BYTES,
    "grpc.max_send_message_length": _MESSAGE_BYTES,
}

# The variables that gRPC reads, in its order; it ignores upper-case names. The first that is set counts, even if it is
# empty, and only an http:// URL is used as a proxy.
# Source: gRPC core's http_proxy_mapper; by experiment with grpcio 1.85
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of `HOST[:PORT]` or `[IPV6]:PORT`; the default port is 443, as in gRPC."""
    try:
        parts = urlsplit(f"//{endpoint}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ClientConfigError(f"endpoint {endpoint!r} is not HOST:PORT: {error}") from error
    if not host or port == 0 or parts.path or parts.username is not None or any(c.isspace() for c in endpoint):
        raise ClientConfigError(f"endpoint {endpoint!r} is not HOST:PORT; write for example lab.example.com:8082")
    return host, port if port is not None else 443


def is_loopback(endpoint: str) -> bool:
    """Return whether `endpoint` is on this machine according to its name: `localhost`, `127.0.0.0/8`, `::1`."""
    host, _ = split_endpoint(endpoint)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def channel_options(
    endpoint: str, *, grpc_options: Mapping[str, str | int] | None = None
) -> list[tuple[str, str | int]]:
    """Return the options of a gRPC channel to `endpoint`; `grpc_options` of the client config override ours."""
    options = dict(_DEFAULTS)
    if is_loopback(endpoint):
        options["grpc.enable_http_proxy"] = 0
    return list((options | dict(grpc_options or {})).items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The proxy that gRPC uses for an endpoint."""

    variable: str
    """The environment variable that names it."""
    address: str
    """Its scheme, host and port, without user name and password."""

    @classmethod
    def in_force(cls, endpoint: str, *, environ: Mapping[str, str] | None = None) -> Proxy | None:
        """Return the proxy that gRPC uses for `endpoint`; None for loopback and for hosts in `no_proxy`."""
        environ = os.environ if environ is None else environ
        variable = next((name for name in _PROXY_VARIABLES if name in environ), None)
        if variable is None or is_loopback(endpoint) or _is_excepted(endpoint, environ):
            return None
        parts = urlsplit(environ[variable])
        if parts.scheme != "http" or not parts.netloc:
            return None
        return cls(variable=variable, address=f"http://{parts.netloc.rpartition('@')[2]}")

    @property
    def host(self) -> str:
        """The host of the proxy: the only name that is looked up."""
        return urlsplit(self.address).hostname or ""

    def __str__(self) -> str:
        return f"proxy {self.address} ({self.variable} in the environment)"


def _is_excepted(endpoint: str, environ: Mapping[str, str]) -> bool:
    """Return whether `no_proxy` contains the host: the end of its name, or a network that it is in."""
    host, _ = split_endpoint(endpoint)
    listed = next((environ[name] for name in _NO_PROXY_VARIABLES if name in environ), "")
    return any(_covers(entry.strip(), host) for entry in listed.split(",") if entry.strip())


def _covers(entry: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.endswith(entry.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How servers are authenticated."""

    ca: bytes | None = None
    """PEM certificates to trust instead of the system's."""
    insecure: bool = False
    """Trust any certificate that the server sends first. Its host name must still match."""

    def credentials(self, endpoint: str, *, timeout: float = 5.0) -> grpc.ChannelCredentials:
        """Return credentials for a channel to `endpoint`; arguments and errors as for `roots`."""
        return grpc.ssl_channel_credentials(self.roots(endpoint, timeout=timeout))

    def roots(self, endpoint: str, *, timeout: float = 5.0) -> bytes | None:
        """
        Return the PEM certificates to trust at `endpoint`; None for those of the system.

        Args:
            endpoint: `HOST:PORT` of a lab controller or router.
            timeout: Seconds for getting the certificate of the server, which only `insecure` does.

        Raises:
            ControllerUnreachable: `insecure`, and the server sends no certificate.
        """
        if not self.insecure:
            return self.ca
        warnings.warn(
            f"TLS to {endpoint} trusts the first certificate that the server sends (insecure TLS was asked for)",
            stacklevel=2,
        )
        return first_certificate(endpoint, timeout)


UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""In the details of a call that was not sent, because the server has another certificate than those trusted."""


class ClosingSocket(ssl.SSLSocket):
    """Closes itself: `wrap_socket` of Python 3.11 leaves it open if the server resets the connection at once."""

    def __del__(self) -> None:
        self.close()


def certificate_of(endpoint: str, timeout: float) -> str:
    """
    Return the PEM certificate that the server sends, whoever signed it.

    Raises:
        OSError: There is no connection within `timeout` seconds, or the server does not use TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.sslsocket_class = ClosingSocket
    host, port = split_endpoint(endpoint)
    with (
        socket.create_connection((host, port), timeout) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")


def first_certificate(endpoint: str, timeout: float) -> bytes:
    """Return the PEM certificate that the server sends; gRPC accepts it as its own root."""
    try:
        return certificate_of(endpoint, timeout).encode()
    except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors
        raise ControllerUnreachable(
            f"cannot get the TLS certificate of {endpoint} to trust it (insecure TLS was asked for): {error}"
        ) from error

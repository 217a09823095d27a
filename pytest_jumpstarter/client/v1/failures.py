"""
The table of failures: from the status code and text of an answer to an error class, a description and advice.

The lab controller answers most failures with UNKNOWN and a text, so the text is compared before the code alone. The
first row that matches counts; each code has a last row without a text.

Source: Jumpstarter 0.7 to 0.9 (controller_service, client_service, auth, bearer); texts of gRPC core
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from grpc import StatusCode

from pytest_jumpstarter.errors import (
    AlreadyExists,
    AlreadyReleased,
    AuthenticationError,
    ControllerUnreachable,
    InvalidArgument,
    MethodUnavailable,
    NotFound,
    NotReady,
    PermissionDenied,
    RequestError,
    RequestTimeout,
    StatusError,
    TokenExpired,
    TransportError,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table: the meaning of a status."""

    code: StatusCode
    text: str | None
    """A regular expression that must match in the details; None matches all."""
    error: type[RequestError]
    what: str
    """What went wrong; `{host}` is the host of the endpoint, `{target}` the host that gRPC looks up, maybe a proxy."""
    advice: str = ""
    """What to do; `{source}` is where endpoint and token came from, `{host}` the host of the endpoint."""


_UNAVAILABLE = StatusCode.UNAVAILABLE
_UNKNOWN = StatusCode.UNKNOWN
_NEW_TOKEN = "run `jmp login`, or put a new token where it came from: {source}"
_CHECK_CLIENT = "check namespace, name and token in {source}"
_TRY_LATER = "try again; if that does not help, ask the administrators of the lab"

FAILURES: tuple[Failure, ...] = (
    # No connection: the texts are gRPC's.
    Failure(
        _UNAVAILABLE,
        r"Hostname Verification Check failed|is not in peer certificate",
        ControllerUnreachable,
        "its TLS certificate is for another host than {host}",
        "use the host name of the certificate in the endpoint in {source}, or have {host} added to the certificate",
    ),
    Failure(
        _UNAVAILABLE,
        r"CERTIFICATE_VERIFY_FAILED",
        ControllerUnreachable,
        "its TLS certificate is not trusted",
        "put the certificate of its CA into tls.ca of {source}",
    ),
    Failure(
        _UNAVAILABLE,
        r"WRONG_VERSION_NUMBER",
        ControllerUnreachable,
        "the server at this address does not use TLS",
        "check host and port of the endpoint in {source}",
    ),
    Failure(
        _UNAVAILABLE,
        r"Failed to create security handshaker",
        ControllerUnreachable,
        "the configured CA certificate is broken",
        "check tls.ca in {source}",
    ),
    Failure(
        _UNAVAILABLE,
        r"(?i)(tls|ssl) handshake failed|handshake shutdown|Custom verification check",
        ControllerUnreachable,
        "the TLS handshake failed",
        "check host, port and tls.ca in {source}",
    ),
    Failure(
        _UNAVAILABLE,
        r"(?i)errors resolving|DNS resolution failed|domain name not found|name resolution",
        ControllerUnreachable,
        "the host name {target} cannot be resolved",
        "check the endpoint in {source}, and this machine's DNS",
    ),
    Failure(
        _UNAVAILABLE,
        r"(?i)connection refused",
        ControllerUnreachable,
        "the connection was refused",
        "check that the lab controller runs, and host and port of the endpoint in {source}",
    ),
    Failure(
        _UNAVAILABLE,
        r"HTTP proxy returned response code",
        ControllerUnreachable,
        "the proxy does not let the connection through",
    ),
    Failure(
        _UNAVAILABLE,
        r"(?i)failed to connect|no route to host|network is unreachable|socket closed|connection reset|timed out",
        ControllerUnreachable,
        "the connection failed",
        "check that the lab controller runs, and the endpoint in {source}",
    ),
    # Dial: the lab controller answers, but the exporter is not ready yet.
    Failure(_UNAVAILABLE, r"is not listening on lease", NotReady, "the exporter does not listen for this lease yet"),
    Failure(
        StatusCode.RESOURCE_EXHAUSTED,
        r"listener buffer full",
        NotReady,
        "the exporter has too many connections waiting",
    ),
    # Authentication.
    Failure(_UNKNOWN, r"(?i)token.*expired|expired.*token", TokenExpired, "the token has expired", _NEW_TOKEN),
    Failure(StatusCode.UNAUTHENTICATED, r"(?i)expired", TokenExpired, "the token has expired", _NEW_TOKEN),
    Failure(
        _UNKNOWN,
        r"^(client|exporter) \S+/\S+: .*not found",
        AuthenticationError,
        "the lab has no such client",
        _CHECK_CLIENT,
    ),
    Failure(
        _UNKNOWN,
        r"(?i)failed to authenticate|oidc: |malformed jwt|failed to verify|invalid bearer token",
        AuthenticationError,
        "the token is not accepted",
        _NEW_TOKEN,
    ),
    Failure(
        StatusCode.PERMISSION_DENIED,
        r"^permission denied( for (client|exporter) \S+)?$",
        AuthenticationError,
        "the token belongs to another client",
        _CHECK_CLIENT,
    ),
    Failure(
        StatusCode.INVALID_ARGUMENT,
        r"(?i)(missing|multiple) metadata|object kind mismatch|resource name (mismatch|required)|authorization header",
        AuthenticationError,
        "the lab controller does not recognise this client",
        _CHECK_CLIENT,
    ),
    # The request itself.
    Failure(_UNKNOWN, r"already exists", AlreadyExists, "the name is already used"),
    Failure(StatusCode.FAILED_PRECONDITION, r"already been released", AlreadyReleased, "it was already released"),
    Failure(_UNKNOWN, r"not found", NotFound, "there is no such object in the lab"),
    Failure(_UNKNOWN, r"(?i)permission denied", PermissionDenied, "it belongs to another client"),
    Failure(
        StatusCode.PERMISSION_DENIED,
        r"namespace mismatch",
        PermissionDenied,
        "it is in another namespace",
        _CHECK_CLIENT,
    ),
    Failure(
        _UNKNOWN,
        r"lease not active|has not started yet|has already started|has already ended|no router available",
        NotReady,
        "the lease is not in the state that this call needs",
    ),
    Failure(
        _UNKNOWN,
        r"(?i)is invalid:|duration (is required|must be|conflicts)|cannot transfer|parse|empty lease name|selector",
        InvalidArgument,
        "the lab controller refuses the request",
    ),
    # By code alone.
    Failure(StatusCode.CANCELLED, None, TransportError, "the call was cancelled"),
    Failure(_UNKNOWN, None, StatusError, "the lab controller failed"),
    Failure(StatusCode.INVALID_ARGUMENT, None, InvalidArgument, "the lab controller refuses the request"),
    Failure(
        StatusCode.DEADLINE_EXCEEDED,
        None,
        RequestTimeout,
        "no answer in time",
        "check that the lab controller runs, and the endpoint in {source}; or give the call a longer timeout",
    ),
    Failure(StatusCode.NOT_FOUND, None, NotFound, "there is no such object in the lab"),
    Failure(StatusCode.ALREADY_EXISTS, None, AlreadyExists, "the name is already used"),
    Failure(StatusCode.PERMISSION_DENIED, None, PermissionDenied, "the client has no permission", _CHECK_CLIENT),
    Failure(StatusCode.RESOURCE_EXHAUSTED, None, StatusError, "a limit was reached", _TRY_LATER),
    Failure(
        StatusCode.FAILED_PRECONDITION, None, NotReady, "the lease or exporter is not in the state that this call needs"
    ),
    Failure(StatusCode.ABORTED, None, StatusError, "the lab controller aborted the call", _TRY_LATER),
    Failure(StatusCode.OUT_OF_RANGE, None, InvalidArgument, "the lab controller refuses a value"),
    Failure(
        StatusCode.UNIMPLEMENTED,
        None,
        MethodUnavailable,
        "the lab controller does not have this method",
        "it may be older than Jumpstarter 0.9, or the endpoint may be another server: check it in {source}",
    ),
    Failure(StatusCode.INTERNAL, None, StatusError, "the lab controller failed", _TRY_LATER),
    Failure(_UNAVAILABLE, None, ControllerUnreachable, "the lab controller is unavailable", _TRY_LATER),
    Failure(StatusCode.DATA_LOSS, None, StatusError, "the lab controller lost data", _TRY_LATER),
    Failure(StatusCode.UNAUTHENTICATED, None, AuthenticationError, "the token is not accepted", _NEW_TOKEN),
)

# gRPC's texts if there was no connection, so that the request was not sent.
_NEVER_SENT = re.compile(
    r"(?i)failed to connect to all addresses|connections to all backends failing|errors resolving|DNS resolution failed"
)
# Something behind the lab controller failed, such as its Kubernetes API, or the stream broke.
_LOST = re.compile(r"(?i)stream removed|etcdserver|timed? ?out|deadline exceeded")
# Trying again at once helps if the controller restarts, but not against these.
_LASTING = re.compile(
    r"(?i)errors resolving|DNS resolution failed|handshake|Verification Check|not in peer certificate"
)


def find_failure(code: StatusCode, details: str) -> Failure:
    """Return the row for a status other than OK."""
    return next(row for row in FAILURES if row.code is code and (row.text is None or re.search(row.text, details)))


def leaves_open(code: StatusCode, details: str) -> bool:
    """Return whether a write may have succeeded despite this error."""
    if code is _UNAVAILABLE:
        return not _NEVER_SENT.search(details)
    if code is _UNKNOWN:
        return bool(_LOST.search(details))
    return code in (StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED, StatusCode.INTERNAL)


def may_pass(code: StatusCode, details: str) -> bool:
    """Return whether trying a read again at once may help."""
    return code is _UNAVAILABLE and not _LASTING.search(details)


def shape(details: str) -> str:
    """Return a text of gRPC without the parts that do not help people."""
    text = re.sub(
        r"(?i)(failed to connect to all addresses|connections to all backends failing); last error: ", "", details
    )
    text = re.sub(r"^(\w+: )?(ipv4:|ipv6:%5B|ipv6:)?(.*?)(Failed to connect to remote host: )", r"\3", text)
    text = re.sub(r"errors resolving \S+: \[field:(.*)\]", r"\1", text)
    text = re.sub(r"C-ares status is not ARES_SUCCESS [^:]*: ", "", text)
    text = re.sub(r"hostname lookup error:address lookup failed for \S+: ", "", text)
    text = re.sub(r"Custom verification check failed with error: UNAUTHENTICATED: ", "", text)
    text = re.sub(r"\(TSI_\w+\): SSL_ERROR_SSL: error:\w+:SSL routines:OPENSSL_internal:", "", text)
    return text.removesuffix(": OK").strip()

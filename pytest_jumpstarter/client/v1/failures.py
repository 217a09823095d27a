"""
The table of failures: from the status code and text of an answer to error class, finality, description and advice.

The lab controller answers most failures with UNKNOWN and a text, so the text is compared before the code alone. The
first row that matches counts; each code has a last row without a text.

The finality of a row says whether the same request may be answered differently if it is sent again:

========  =====================================================================================================
final     the object does not exist, the lease has ended, or the request is wrong
refusal   every refusal of a token or a permission: counts if a second attempt is refused too
setup     the address or the certificates are wrong: final, unless there was an answer before
passing   a restart; Kubernetes or etcd busy or not reachable; a slow network; an exporter that is not ready yet
unknown   every text that this table does not have, and those that may be either
========  =====================================================================================================

Texts that quote the request (a name, a selector) are matched from their start or to their end, and come before the
texts of temporary failures, so that no name can look like one.

Source: Jumpstarter 0.7 to 0.9 (controller_service, client_service, auth, bearer), and 303 answers of 0.9.0;
Kubernetes (apimachinery api/errors, apiserver, client-go), etcd (rpctypes), Go (net, net/http), go-oidc; texts of gRPC
core, as of grpcio 1.85, and its mapping of HTTP statuses
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
    Finality,
    InvalidArgument,
    MethodUnavailable,
    NotFound,
    NotReady,
    PermissionDenied,
    RequestError,
    RequestTimeout,
    StatusError,
    TemporaryFailure,
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
    finality: Finality
    what: str
    """What went wrong; `{host}` is the host of the endpoint, `{target}` the host that gRPC looks up, maybe a proxy."""
    advice: str = ""
    """What to do; `{source}` is where endpoint and token came from, `{host}` the host of the endpoint."""


_UNAVAILABLE, _UNKNOWN, _INTERNAL = StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.INTERNAL
_EXHAUSTED, _PRECONDITION = StatusCode.RESOURCE_EXHAUSTED, StatusCode.FAILED_PRECONDITION

_NEW_TOKEN = "run `jmp login`, or put a new token where it came from: {source}"
_CHECK_CLIENT = "check namespace, name and token in {source}"
_CHECK_RUNS = "check that the lab controller runs, and the endpoint in {source}"
_TRY_LATER = "try again; if that does not help, ask the administrators of the lab"


def _unreachable(text: str | None, finality: Finality, what: str, advice: str = "") -> Failure:
    """Return a row for a lab controller that cannot be reached."""
    return Failure(_UNAVAILABLE, text, ControllerUnreachable, finality, what, advice)


def _http(text: str, finality: Finality, what: str, advice: str) -> tuple[Failure, ...]:
    """Return rows for an HTTP status that gRPC received instead of an answer; it maps them to various codes."""
    codes = [code for code in StatusCode if code is not StatusCode.OK]
    return tuple(Failure(code, text, ControllerUnreachable, finality, what, advice) for code in codes)


def _temporary(text: str, what: str) -> tuple[Failure, ...]:
    """Return rows for a failure of what the lab controller depends on, whose text it passes on."""
    codes = (_UNKNOWN, _INTERNAL, StatusCode.ABORTED, _EXHAUSTED)
    return tuple(Failure(code, text, TemporaryFailure, "passing", what, _TRY_LATER) for code in codes)


FAILURES: tuple[Failure, ...] = (
    # No connection: the texts are gRPC's.
    _unreachable(
        r"Hostname Verification Check failed|is not in peer certificate",
        "setup",
        "its TLS certificate is for another host than {host}",
        "use the host name of the certificate in the endpoint in {source}, or have {host} added to the certificate",
    ),
    _unreachable(
        r"CERTIFICATE_VERIFY_FAILED",
        "setup",
        "its TLS certificate is not trusted",
        "put the certificate of its CA into tls.ca of {source}",
    ),
    _unreachable(
        r"WRONG_VERSION_NUMBER",
        "setup",
        "the server at this address does not use TLS",
        "check host and port of the endpoint in {source}",
    ),
    _unreachable(
        r"missing selected ALPN property",
        "setup",
        "another server than the lab controller answers at this address",
        "check the endpoint in {source}",
    ),
    _unreachable(
        r"Failed to create security handshaker",
        "final",
        "the configured CA certificate is broken",
        "check tls.ca in {source}",
    ),
    _unreachable(
        r"(?i)(tls|ssl) handshake failed|handshake shutdown|Custom verification check",
        "setup",
        "the TLS handshake failed",
        "check host, port and tls.ca in {source}",
    ),
    _unreachable(
        r"(?i)domain name not found|misformatted domain name|name or service not known|nodename nor servname",
        "setup",
        "the host name {target} cannot be resolved",
        "check the endpoint in {source}, and this machine's DNS",
    ),
    _unreachable(
        r"(?i)errors resolving|DNS resolution failed|name resolution",
        "passing",
        "the host name {target} cannot be resolved",
        "check the endpoint in {source}, and this machine's DNS",
    ),
    _unreachable(
        r"(?i)connection refused",
        "passing",
        "the connection was refused",
        "check that the lab controller runs, and host and port of the endpoint in {source}",
    ),
    _unreachable(
        r"HTTP proxy returned response code (408|429|5\d\d)",
        "passing",
        "the proxy cannot connect at the moment",
    ),
    _unreachable(
        r"HTTP proxy returned response code",
        "setup",
        "the proxy does not let the connection through",
    ),
    *_http(
        r"http2 header with status: (408|429|5\d\d)",
        "passing",
        "the proxy in front of the lab controller cannot reach it at the moment",
        _CHECK_RUNS,
    ),
    *_http(
        r"http2 header with status: ",
        "setup",
        "another server than the lab controller answers at this address",
        "check the endpoint in {source}",
    ),
    # Dial: the lab controller answers, but the exporter is not ready yet.
    Failure(
        _UNAVAILABLE,
        r"is not listening on lease",
        NotReady,
        "passing",
        "the exporter does not listen for this lease yet",
    ),
    _unreachable(
        r"(?i)failed to connect|no route to host|network is unreachable|socket closed|connection reset|timed out",
        "passing",
        "the connection failed",
        _CHECK_RUNS,
    ),
    Failure(_EXHAUSTED, r"listener buffer full", NotReady, "passing", "the exporter has too many connections waiting"),
    Failure(_PRECONDITION, r"is offline", NotReady, "final", "the exporter is offline"),
    Failure(_PRECONDITION, r"hook failed", NotReady, "final", "a hook of the exporter failed"),
    Failure(_PRECONDITION, r"not ready", NotReady, "passing", "the exporter is not ready yet"),
    # The request itself, in texts that quote it.
    Failure(
        _UNKNOWN,
        r'^(client|exporter) \S+: (\S+ ".*" not found$|an empty namespace )',
        AuthenticationError,
        "refusal",
        "the lab has no such client",
        _CHECK_CLIENT,
    ),
    Failure(
        _UNKNOWN,
        r'^(target client not found: )?\w+\.jumpstarter\.dev ".*" not found$',
        NotFound,
        "final",
        "there is no such object in the lab",
    ),
    Failure(
        _UNKNOWN,
        r'^(\w+\.jumpstarter\.dev ".*" is invalid: |admission webhook ".*" denied |invalid resource name "'
        r"|invalid selector: |(failed to parse label selector: |invalid continue token: |unable to parse requirement: )"
        r"|found '.*', expected: )|denied request: |etcdserver: request is too large",
        InvalidArgument,
        "final",
        "the lab controller refuses the request",
    ),
    # Temporary failures of what the lab controller depends on.
    *_temporary(
        r"authenticator not initialized|cache is not started|Informer to sync", "the lab controller is starting"
    ),
    *_temporary(r"fetching keys|get keys failed", "the lab controller cannot reach its identity provider"),
    *_temporary(r"etcdserver: ", "the database of the lab controller is busy or not reachable"),
    *_temporary(
        r"object has been modified|Operation cannot be fulfilled|StorageError: invalid object",
        "another client changed the object at the same time",
    ),
    *_temporary(
        r"(?i)internal error occurred|the server (is currently unable|was unable|has received too many)"
        r"|too many requests|rate limiter|apiserver|storage is \(re\)initializing|(^|: )timeout: |request timed out"
        r"|request did not complete|continue parameter is too old|try again later|service unavailable|bad gateway"
        r"|gateway timeout",
        "the Kubernetes API of the lab controller is busy or not reachable",
    ),
    *_temporary(
        r"dial tcp|i/o timeout|connection (reset|refused|lost)|broken pipe|unexpected EOF|(^|: )EOF$"
        r"|TLS handshake timeout|GOAWAY|RST_STREAM|transport is closing|[rR]equest canceled|context deadline exceeded"
        r"|context canceled|use of closed network connection|Stream removed \((?!received metadata)|^Stream removed$",
        "a connection of the lab controller failed",
    ),
    Failure(
        _UNKNOWN,
        r"x509: ",
        StatusError,
        "unknown",
        "the lab controller does not trust its Kubernetes API",
        _TRY_LATER,
    ),
    # Authentication.
    Failure(
        _UNKNOWN, r"(?i)token.*expired|expired.*token", TokenExpired, "refusal", "the token has expired", _NEW_TOKEN
    ),
    Failure(StatusCode.UNAUTHENTICATED, r"(?i)expired", TokenExpired, "refusal", "the token has expired", _NEW_TOKEN),
    Failure(
        _UNKNOWN,
        r"(?i)failed to authenticate|oidc: |malformed jwt|failed to verify|invalid bearer token",
        AuthenticationError,
        "refusal",
        "the token is not accepted",
        _NEW_TOKEN,
    ),
    Failure(
        StatusCode.PERMISSION_DENIED,
        r"^permission denied( for (client|exporter) \S+)?$",
        AuthenticationError,
        "refusal",
        "the token belongs to another client",
        _CHECK_CLIENT,
    ),
    Failure(
        StatusCode.INVALID_ARGUMENT,
        r"(?i)(missing|multiple) metadata|object kind mismatch|resource name (mismatch|required)|authorization header",
        AuthenticationError,
        "refusal",
        "the lab controller does not recognise this client",
        _CHECK_CLIENT,
    ),
    # The request itself.
    Failure(_UNKNOWN, r"already exists", AlreadyExists, "final", "the name is already used"),
    Failure(_PRECONDITION, r"already been released", AlreadyReleased, "final", "it was already released"),
    Failure(
        _UNKNOWN,
        r'\w+\.jumpstarter\.dev ".*" not found|^(lease|exporter|client) \S+ not found',
        NotFound,
        "final",
        "there is no such object in the lab",
    ),
    Failure(_UNKNOWN, r"(?i)permission denied", PermissionDenied, "refusal", "it belongs to another client"),
    Failure(
        StatusCode.PERMISSION_DENIED,
        r"namespace mismatch",
        PermissionDenied,
        "refusal",
        "it is in another namespace",
        _CHECK_CLIENT,
    ),
    Failure(
        _UNKNOWN,
        r"lease not active|no router available",
        NotReady,
        "passing",
        "the lease is not in the state that this call needs",
    ),
    Failure(
        _UNKNOWN,
        r"has not started yet|has already started|has already ended",
        NotReady,
        "final",
        "the lease is not in the state that this call needs",
    ),
    Failure(
        _UNKNOWN,
        r"(?i)duration (is required|must be|conflicts)|cannot transfer|empty lease name|label selector operator"
        r"|resource name may not be empty|is invalid:",
        InvalidArgument,
        "final",
        "the lab controller refuses the request",
    ),
    Failure(_INTERNAL, r"error unmarshalling", InvalidArgument, "final", "the lab controller cannot read the request"),
    Failure(
        _EXHAUSTED,
        r"larger than max|metadata size exceeds",
        InvalidArgument,
        "final",
        "the request is too large for the lab controller",
    ),
    # By code alone.
    Failure(StatusCode.CANCELLED, None, TransportError, "passing", "the call was cancelled"),
    Failure(_UNKNOWN, None, StatusError, "unknown", "the lab controller failed", _TRY_LATER),
    Failure(StatusCode.INVALID_ARGUMENT, None, InvalidArgument, "final", "the lab controller refuses the request"),
    Failure(
        StatusCode.DEADLINE_EXCEEDED,
        None,
        RequestTimeout,
        "passing",
        "no answer in time",
        f"{_CHECK_RUNS}; or give the call a longer timeout",
    ),
    Failure(StatusCode.NOT_FOUND, None, NotFound, "final", "there is no such object in the lab"),
    Failure(StatusCode.ALREADY_EXISTS, None, AlreadyExists, "final", "the name is already used"),
    Failure(
        StatusCode.PERMISSION_DENIED, None, PermissionDenied, "refusal", "the client has no permission", _CHECK_CLIENT
    ),
    Failure(_EXHAUSTED, None, TemporaryFailure, "passing", "a limit was reached", _TRY_LATER),
    Failure(
        _PRECONDITION,
        None,
        NotReady,
        "unknown",
        "the lease or exporter is not in the state that this call needs",
    ),
    Failure(StatusCode.ABORTED, None, TemporaryFailure, "passing", "the lab controller aborted the call", _TRY_LATER),
    Failure(StatusCode.OUT_OF_RANGE, None, InvalidArgument, "final", "the lab controller refuses a value"),
    Failure(
        StatusCode.UNIMPLEMENTED,
        None,
        MethodUnavailable,
        "final",
        "the lab controller does not have this method",
        "it may be older than Jumpstarter 0.9, or the endpoint may be another server: check it in {source}",
    ),
    Failure(_INTERNAL, None, StatusError, "unknown", "the lab controller failed", _TRY_LATER),
    _unreachable(None, "passing", "the lab controller is unavailable", _TRY_LATER),
    Failure(StatusCode.DATA_LOSS, None, StatusError, "unknown", "the lab controller lost data", _TRY_LATER),
    Failure(StatusCode.UNAUTHENTICATED, None, AuthenticationError, "refusal", "the token is not accepted", _NEW_TOKEN),
)

# gRPC's texts if there was no connection, so that the request was not sent.
_NEVER_SENT = re.compile(
    r"(?i)failed to connect to all addresses|connections to all backends failing|errors resolving|DNS resolution failed"
)
# The request may have been carried out, although something on the way or behind the lab controller failed.
_LOST = re.compile(
    r"(?i)stream removed|etcdserver|timed? ?out|deadline exceeded|context canceled|connection (reset|lost)|EOF|GOAWAY"
    r"|broken pipe|transport is closing|internal error occurred|may still be processing|http2 header with status: 5"
)
# Trying again within a second would make it worse, or comes too late.
_NOT_AT_ONCE = (_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED)


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
    if code is StatusCode.OK or code in _NOT_AT_ONCE:
        return False
    return find_failure(code, details).finality == "passing"

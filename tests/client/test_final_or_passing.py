"""What is final and what passes: every answer of a real lab controller, and every text of trouble behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from pytest_jumpstarter import errors
from pytest_jumpstarter.client.v1 import Client, Request, Response
from pytest_jumpstarter.client.v1.failures import FAILURES, find_failure, leaves_open, may_pass
from pytest_jumpstarter.errors import Finality, RequestError

from .controller import Controller

# 303 answers of Jumpstarter's controller 0.9.0 on Kubernetes, with the class and finality that each should have.
ANSWERS: list[dict[str, str]] = json.loads(Path(__file__).with_name("answers-0.9.0.json").read_text())

U, N, X = StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.INTERNAL
GET = 'Get "https://10.96.0.1:443/apis/jumpstarter.dev/v1alpha1/namespaces/lab/clients/alice"'
ALL = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:8082: "
TLS = "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"

STARTING = [
    (N, "oidc: authenticator not initialized"),
    (N, "[oidc: authenticator not initialized, oidc: verify token: oidc: token is expired (Token Expiry: 2026-01-01)]"),
    (N, "the cache is not started, can not read objects"),
    (N, "Timeout: failed waiting for *v1alpha1.Lease Informer to sync"),
]
DATABASE = [
    (N, "etcdserver: leader changed"),
    (N, "etcdserver: request timed out"),
    (N, "etcdserver: request timed out, possibly due to previous leader failure"),
    (N, "etcdserver: no leader"),
    (N, "etcdserver: too many requests"),
    (X, "etcdserver: leader changed"),
]
KUBERNETES = [
    (N, f"client lab/alice: {GET}: dial tcp 10.96.0.1:443: connect: connection refused"),
    (N, f"{GET}: dial tcp 10.96.0.1:443: i/o timeout"),
    (N, f"{GET}: dial tcp: lookup kubernetes.default.svc on 10.96.0.10:53: no such host"),
    (N, f"{GET}: read tcp 10.1.0.5:40312->10.96.0.1:443: read: connection reset by peer"),
    (N, f"{GET}: net/http: TLS handshake timeout"),
    (N, f"{GET}: EOF"),
    (N, f"{GET}: unexpected EOF"),
    (N, f"{GET}: http2: client connection lost"),
    (N, f"{GET}: http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR"),
    (N, f"{GET}: context deadline exceeded"),
    (N, f"{GET}: net/http: request canceled (Client.Timeout exceeded while awaiting headers)"),
    (N, f"{GET}: write tcp 10.1.0.5:40312->10.96.0.1:443: write: broken pipe"),
    (N, "context canceled"),
    (N, "client rate limiter Wait returned an error: context deadline exceeded"),
    (N, "Internal error occurred: failed to list leases"),
    (N, 'Internal error occurred: failed calling webhook "v.kb.io": failed to call webhook: service "hook" not found'),
    (N, "the server is currently unable to handle the request (get leases.jumpstarter.dev)"),
    (N, "the server was unable to return a response in the time allotted, but may still be processing the request"),
    (N, "the server has received too many requests and has asked us to try again later (post leases.jumpstarter.dev)"),
    (N, "too many requests"),
    (N, "Too many requests, please try again later."),
    (N, "apiserver is shutting down"),
    (N, "Timeout: request did not complete within the allotted timeout"),
    (N, "storage is (re)initializing"),
    (N, "The provided continue parameter is too old to display a consistent list result."),
    (X, "Internal error occurred: etcd is slow"),
]
CONFLICT = [
    (N, 'Operation cannot be fulfilled on leases.jumpstarter.dev "x": the object has been modified; please try again'),
    (StatusCode.ABORTED, "the object has been modified; please apply your changes to the latest version"),
]
IDENTITY = [
    (N, 'oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed Get "https://sso/": EOF'),
    (N, "oidc: verify token: failed to verify signature: fetching keys oidc: get keys failed 503 Service Unavailable"),
]
BY_CODE = [
    (StatusCode.RESOURCE_EXHAUSTED, "too many requests"),
    (StatusCode.RESOURCE_EXHAUSTED, "Stream removed (RST_STREAM (Received RST_STREAM with error code 11))"),
    (StatusCode.RESOURCE_EXHAUSTED, ""),
    (StatusCode.ABORTED, "transaction aborted"),
    (X, "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"),
    (N, "Stream removed"),
]
UNREACHABLE = [
    (U, f"{ALL}Failed to connect to remote host: Connection refused"),
    (U, f"{ALL}Handshake read failed (Socket closed)"),
    (U, f"{ALL}Handshake read failed (recvmsg:Connection reset by peer (104))"),
    (U, f"{ALL}Handshake read failed (Endpoint closing)"),
    (U, f"{ALL}HTTP proxy returned response code 502"),
    (U, "errors resolving lab:8082: [field:hostname lookup error:Timeout while contacting DNS servers]"),
    (U, "Stream removed (Socket closed)"),
    (U, "Stream removed (GOAWAY received; Error code: 0; Debug Text: )"),
    (U, "Connection reset by peer"),
    (U, "upstream connect error or disconnect/reset before headers. reset reason: connection failure"),
    (U, "no healthy upstream"),
    (U, "Received http2 header with status: 429"),
    (U, "Received http2 header with status: 502"),
    (U, "Received http2 header with status: 503"),
    (U, "Received http2 header with status: 504"),
    (N, "Received http2 header with status: 500"),
    (U, ""),
]
NOT_YET = [
    (U, "exporter is not listening on lease x"),
    (StatusCode.RESOURCE_EXHAUSTED, "listener buffer full on lease x"),
    (StatusCode.FAILED_PRECONDITION, "exporter is not ready (status: Available)"),
    (StatusCode.FAILED_PRECONDITION, "exporter not ready (status: Unknown)"),
    (N, "lease not active"),
    (N, "no router available"),
]
SETUP = [
    (U, f"{ALL}{TLS}CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate"),
    (U, f"{ALL}{TLS}WRONG_VERSION_NUMBER: Invalid certificate verification context"),
    (U, f"{ALL}Hostname Verification Check failed."),
    (U, f"{ALL}{TLS}SSLV3_ALERT_HANDSHAKE_FAILURE"),
    (U, "errors resolving no.invalid:1: [field:hostname lookup error:address lookup failed: Domain name not found]"),
    (U, "errors resolving no..name:1: [field:hostname lookup error:address lookup failed: Misformatted domain name]"),
    (U, "connections to all backends failing; last error: UNKNOWN: Cannot check peer: missing selected ALPN property."),
    (U, f"{ALL}HTTP proxy returned response code 407"),
    (StatusCode.UNAUTHENTICATED, "Received http2 header with status: 401"),
    (StatusCode.PERMISSION_DENIED, "Received http2 header with status: 403"),
    (StatusCode.UNIMPLEMENTED, "Received http2 header with status: 404"),
    (X, "Received http2 header with status: 400"),
    (N, "Received http2 header with status: 301"),
]
UNKNOWN = [
    (N, "something nobody has seen before"),
    (N, ""),
    (N, "Unauthorized"),
    (N, 'leases.jumpstarter.dev is forbidden: User "system:serviceaccount:lab:controller" cannot list resource'),
    (N, 'leases.jumpstarter.dev "x" is forbidden: exceeded quota: leases, requested: count=1, used: count=9'),
    (N, f"{GET}: tls: failed to verify certificate: x509: certificate has expired or is not yet valid"),
    (N, "the server could not find the requested resource (get leases.jumpstarter.dev)"),
    (N, 'no matches for kind "Lease" in version "jumpstarter.dev/v1alpha1"'),
    (N, 'secrets "router" not found'),
    (X, "something nobody has seen before"),
    (X, "Exception deserializing response!"),
    (StatusCode.DATA_LOSS, ""),
]
INVALID = [
    (N, 'admission webhook "v.kyverno.svc" denied the request: no lease on Sundays'),
    (N, "leases.jumpstarter.dev \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
    (N, "etcdserver: request is too large"),
    # What was asked for may sound like trouble.
    (N, 'Lease.jumpstarter.dev "etcdserver: leader changed" is invalid: metadata.name: Invalid value: "a: EOF"'),
    (N, 'unable to parse requirement: values[0][board]: Invalid value: "too many requests": a valid label must be'),
    (StatusCode.INVALID_ARGUMENT, "invalid lease tags: tag key \"dial tcp\" must not contain '/'"),
    (StatusCode.OUT_OF_RANGE, ""),
]

Rows = list[tuple[StatusCode, str]]
TEXTS: list[tuple[str, Rows, type[RequestError], Finality]] = [
    ("starting", STARTING, errors.TemporaryFailure, "passing"),
    ("database", DATABASE, errors.TemporaryFailure, "passing"),
    ("kubernetes", KUBERNETES, errors.TemporaryFailure, "passing"),
    ("conflict", CONFLICT, errors.TemporaryFailure, "passing"),
    ("identity", IDENTITY, errors.TemporaryFailure, "passing"),
    ("by-code", BY_CODE, errors.TemporaryFailure, "passing"),
    ("unreachable", UNREACHABLE, errors.ControllerUnreachable, "passing"),
    ("deadline", [(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")], errors.RequestTimeout, "passing"),
    ("cancelled", [(StatusCode.CANCELLED, "context canceled")], errors.TransportError, "passing"),
    ("not-yet", NOT_YET, errors.NotReady, "passing"),
    ("setup", SETUP, errors.ControllerUnreachable, "setup"),
    ("unknown", UNKNOWN, errors.StatusError, "unknown"),
    ("odd-state", [(StatusCode.FAILED_PRECONDITION, "who knows")], errors.NotReady, "unknown"),
    ("offline", [(StatusCode.FAILED_PRECONDITION, "exporter is offline")], errors.NotReady, "final"),
    ("hook", [(StatusCode.FAILED_PRECONDITION, "exporter beforeLease hook failed")], errors.NotReady, "final"),
    ("broken-ca", [(U, "Failed to create security handshaker")], errors.ControllerUnreachable, "final"),
    ("invalid", INVALID, errors.InvalidArgument, "final"),
    (
        "not-found",
        [(StatusCode.NOT_FOUND, ""), (N, 'exporters.jumpstarter.dev "x: i/o timeout" not found')],
        errors.NotFound,
        "final",
    ),
    ("taken", [(StatusCode.ALREADY_EXISTS, "")], errors.AlreadyExists, "final"),
    ("lacking", [(StatusCode.UNIMPLEMENTED, "Method not found!")], errors.MethodUnavailable, "final"),
    ("rejected", [(StatusCode.UNAUTHENTICATED, "no")], errors.AuthenticationError, "refusal"),
    ("forbidden", [(StatusCode.PERMISSION_DENIED, "no")], errors.PermissionDenied, "refusal"),
]


def error_of(code: StatusCode, text: str, method: str = "GetLease") -> RequestError:
    """Return the error that a client raises for this answer."""
    request = Request("GetLease", {"name": "namespaces/lab/leases/x"})
    return Response(request=request, endpoint="lab.example:8082", code=code, details=text, source="c.yaml").error()


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["request"].encode("ascii", "replace").decode())
def test_answer_of_a_real_controller(answer: dict[str, str]) -> None:
    """Each answer of version 0.9.0 is of the class and finality that stand beside it."""
    if answer["code"] == "OK":
        assert answer.keys() == {"method", "request", "code"}
        return
    error = error_of(StatusCode[answer["code"]], answer["text"])
    assert (type(error).__name__, error.finality) == (answer["error"], answer["finality"])


def test_all_answers_are_here() -> None:
    """None of the answers is left out, and those that are errors have both columns."""
    assert len(ANSWERS) == 303
    failed = [answer for answer in ANSWERS if answer["code"] != "OK"]
    assert len(failed) == 177
    assert all(answer["error"] and answer["finality"] for answer in failed)


@pytest.mark.parametrize(
    ("code", "text", "kind", "finality"),
    [
        pytest.param(code, text, kind, finality, id=f"{name}-{number}")
        for name, rows, kind, finality in TEXTS
        for number, (code, text) in enumerate(rows)
    ],
)
def test_text_of_trouble(code: StatusCode, text: str, kind: type[RequestError], finality: Finality) -> None:
    """Each text of Kubernetes, etcd, Go, gRPC and proxies is of the class and finality that stand beside it."""
    error = error_of(code, text)
    assert type(error) is kind
    assert error.finality is finality


def test_no_class_has_a_finality_by_accident() -> None:
    """Every refusal is one of token or permission and the other way round; what passes is a failure that may heal."""
    refusals = (errors.AuthenticationError, errors.PermissionDenied)
    passing = (errors.TransportError, errors.NotReady)
    for row in FAILURES:
        assert issubclass(row.error, refusals) is (row.finality == "refusal"), row
        assert row.finality != "passing" or issubclass(row.error, passing), row
        assert row.error is not errors.TemporaryFailure or row.finality == "passing", row


@pytest.mark.parametrize(("code", "text"), STARTING + KUBERNETES + IDENTITY)
def test_nobody_is_asked_to_log_in(code: StatusCode, text: str) -> None:
    """Trouble of the lab controller never reads as trouble with the token."""
    assert "login" not in str(error_of(code, text))
    assert "token is" not in str(error_of(code, text)).partition(" (UNKNOWN")[0]


def test_a_rejected_token_still_asks_to_log_in() -> None:
    """A token that is really rejected names the command that helps."""
    for text in ("failed to authenticate token", "oidc: verify token: oidc: token is expired (Token Expiry: TIME)"):
        assert "`jmp login`" in str(error_of(N, text))


@pytest.mark.parametrize(
    ("code", "text", "is_open"),
    [
        (N, "oidc: authenticator not initialized", False),
        (N, f"client lab/alice: {GET}: dial tcp 10.96.0.1:443: connect: connection refused", False),
        (N, "the server has received too many requests and has asked us to try again later", False),
        (N, "the object has been modified", False),
        (N, "etcdserver: leader changed", True),
        (N, "Internal error occurred: etcd is slow", True),
        (N, f"{GET}: read tcp 10.1.0.5:40312->10.96.0.1:443: read: connection reset by peer", True),
        (N, "the server was unable to return a response in the time allotted, but may still be processing", True),
        (N, "Received http2 header with status: 500", True),
        (StatusCode.UNIMPLEMENTED, "Received http2 header with status: 404", False),
    ],
)
def test_what_trouble_leaves_open(code: StatusCode, text: str, is_open: bool) -> None:
    """Trouble while something was written leaves open whether it is; trouble before that does not."""
    assert leaves_open(code, text) is is_open


@pytest.mark.parametrize(
    ("code", "text", "is_worth_it"),
    [
        (N, "etcdserver: leader changed", True),
        (U, "", True),
        (StatusCode.ABORTED, "", True),
        (StatusCode.RESOURCE_EXHAUSTED, "", False),
        (StatusCode.DEADLINE_EXCEEDED, "", False),
        (StatusCode.UNAUTHENTICATED, "", False),
        (U, f"{ALL}{TLS}CERTIFICATE_VERIFY_FAILED", False),
        (N, "who knows", False),
        (StatusCode.OK, "", False),
    ],
)
def test_reads_that_are_tried_again_at_once(code: StatusCode, text: str, is_worth_it: bool) -> None:
    """What passes is asked again within a second, but for what a second try makes worse, or comes too late for."""
    assert may_pass(code, text) is is_worth_it


def test_a_read_outlives_one_hiccup(client: Client, controller: Controller) -> None:
    """A single failure of the kind that passes is not seen by whoever reads a lease."""
    answers: Any = iter([(N, "etcdserver: leader changed"), (StatusCode.NOT_FOUND, "gone")])
    controller.answers["GetLease"] = lambda message, context: context.abort(*next(answers))
    with pytest.raises(errors.NotFound):
        client.get_lease("x")
    assert controller.methods() == ["GetLease"] * 2


def test_errors_without_an_answer() -> None:
    """Where nothing came back, what could not be sent is final, and what was not answered passes."""
    assert errors.MethodUnavailable("the stubs are too old").finality == "final"
    assert errors.ControllerUnreachable("no certificate").finality == "passing"
    assert find_failure(N, "").finality == "unknown"

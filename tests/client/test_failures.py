"""Statuses: which error each becomes, and what it tells people."""

from __future__ import annotations

import grpc
import pytest
from grpc import StatusCode

from pytest_jumpstarter import errors
from pytest_jumpstarter.client.v1 import Client, Proxy, Request, Response
from pytest_jumpstarter.client.v1.failures import FAILURES, find_failure, leaves_open
from pytest_jumpstarter.client.v1.response import shape
from pytest_jumpstarter.errors import RequestError

from .controller import TOKEN, Controller

LEASE = "namespaces/lab/leases/x"
REQUEST = Request("GetLease", {"name": LEASE})


def respond(
    code: StatusCode, details: str = "", *, endpoint: str = "lab.example:8082", proxy: Proxy | None = None
) -> Response:
    """Return the response to GetLease with this status."""
    return Response(
        request=REQUEST, endpoint=endpoint, code=code, details=details, proxy=proxy, source="client config c.yaml"
    )


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_every_code_is_an_error(code: StatusCode) -> None:
    """Whatever the code, with any text or none, there is an error that names call, endpoint, code and text."""
    for details in ("", "something nobody has seen before"):
        response = respond(code, details)
        with pytest.raises(RequestError) as caught:
            response.raise_for_status()
        assert type(caught.value) is not RequestError
        assert str(caught.value).startswith("GetLease at lab.example:8082: ")
        assert code.name in str(caught.value)
        assert details in str(caught.value)
        assert (caught.value.request, caught.value.response) == (REQUEST, response)


def test_ok_is_none() -> None:
    """OK raises nothing and returns the response."""
    response = respond(StatusCode.OK)
    assert response.raise_for_status() is response


def test_every_row_can_be_found() -> None:
    """No row hides behind an earlier one of the same code that fits all."""
    for index, row in enumerate(FAILURES):
        assert not any(before.code is row.code and before.text is None for before in FAILURES[:index]), row


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        # What Jumpstarter's lab controller says, word for word.
        (StatusCode.UNKNOWN, "oidc: token is expired (Token Expiry: 2026-01-01)", errors.TokenExpired),
        (StatusCode.UNKNOWN, "failed to authenticate token", errors.AuthenticationError),
        (StatusCode.UNKNOWN, "oidc: verify token: failed to verify signature", errors.AuthenticationError),
        (StatusCode.UNKNOWN, 'client lab/ci: clients.jumpstarter.dev "ci" not found', errors.AuthenticationError),
        (StatusCode.UNAUTHENTICATED, "missing authorization header", errors.AuthenticationError),
        (StatusCode.INVALID_ARGUMENT, "malformed authorization header", errors.AuthenticationError),
        (StatusCode.INVALID_ARGUMENT, "object kind mismatch", errors.AuthenticationError),
        (StatusCode.INVALID_ARGUMENT, "missing metadata: jumpstarter-namespace", errors.AuthenticationError),
        (StatusCode.PERMISSION_DENIED, "permission denied for client lab/ci", errors.AuthenticationError),
        (StatusCode.PERMISSION_DENIED, "permission denied", errors.AuthenticationError),
        (StatusCode.PERMISSION_DENIED, "namespace mismatch", errors.PermissionDenied),
        (StatusCode.UNKNOWN, "permission denied", errors.PermissionDenied),
        (StatusCode.UNKNOWN, "DeleteLease permission denied", errors.PermissionDenied),
        (StatusCode.UNKNOWN, 'leases.jumpstarter.dev "x" not found', errors.NotFound),
        (StatusCode.UNKNOWN, 'target client not found: clients.jumpstarter.dev "b" not found', errors.NotFound),
        (StatusCode.UNKNOWN, 'leases.jumpstarter.dev "x" already exists', errors.AlreadyExists),
        (StatusCode.FAILED_PRECONDITION, f'lease "{LEASE}" has already been released', errors.AlreadyReleased),
        (StatusCode.UNKNOWN, "duration is required (must specify Duration, or both ...)", errors.InvalidArgument),
        (StatusCode.UNKNOWN, "duration must be positive, got 0s", errors.InvalidArgument),
        (StatusCode.UNKNOWN, 'Lease.jumpstarter.dev "X" is invalid: metadata.name', errors.InvalidArgument),
        (StatusCode.INVALID_ARGUMENT, "invalid lease tags: too many", errors.InvalidArgument),
        (StatusCode.UNKNOWN, "cannot transfer lease: lease has not started yet", errors.NotReady),
        (StatusCode.UNKNOWN, "cannot update BeginTime: lease has already started", errors.NotReady),
        (StatusCode.UNKNOWN, "lease not active", errors.NotReady),
        (StatusCode.FAILED_PRECONDITION, "exporter is offline", errors.NotReady),
        (StatusCode.UNAVAILABLE, "exporter is not listening on lease x", errors.NotReady),
        (StatusCode.RESOURCE_EXHAUSTED, "listener buffer full on lease x", errors.NotReady),
        (StatusCode.UNIMPLEMENTED, "unknown method RotateToken", errors.MethodUnavailable),
        (StatusCode.UNAVAILABLE, "upstream connect error", errors.ControllerUnreachable),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.RequestTimeout),
        (StatusCode.UNKNOWN, "etcdserver: leader changed", errors.TemporaryFailure),
    ],
)
def test_text_decides(code: StatusCode, details: str, error: type[RequestError]) -> None:
    """Each failure of a lab controller has its own class."""
    assert find_failure(code, details).error is error


def test_expired_token_says_what_to_do() -> None:
    """An expired token names the command that helps and the place the token came from."""
    error = respond(StatusCode.UNKNOWN, "oidc: token is expired").error()
    assert "`jmp login`" in str(error)
    assert "client config c.yaml" in str(error)


def test_the_proxy_is_named() -> None:
    """No answer through a proxy: the error names the proxy, its variable and the way around it."""
    proxy = Proxy(variable="https_proxy", address="http://proxy:3128")
    for code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
        text = str(respond(code, "Connection refused", proxy=proxy).error())
        assert "through proxy http://proxy:3128 (https_proxy in the environment)" in text
        assert "name lab.example in no_proxy" in text
    assert "proxy" not in str(respond(StatusCode.NOT_FOUND, proxy=proxy).error())


@pytest.mark.parametrize(
    ("raw", "shaped"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: Connection refused",
            "127.0.0.1:1: Connection refused",
        ),
        (
            "errors resolving a.invalid:1: [field:hostname lookup error:address lookup failed for a.invalid:1: "
            "Domain name not found]",
            "Domain name not found",
        ),
        ("lease not active", "lease not active"),
    ],
)
def test_grpc_texts_are_shaped(raw: str, shaped: str) -> None:
    """What is left of gRPC's own text is what tells people something."""
    assert shape(raw) == shaped


@pytest.mark.parametrize(
    ("code", "details", "is_open"),
    [
        (StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: x", False),
        (StatusCode.UNAVAILABLE, "Socket closed", True),
        (StatusCode.DEADLINE_EXCEEDED, "", True),
        (StatusCode.UNKNOWN, "etcdserver: request timed out", True),
        (StatusCode.UNKNOWN, "permission denied", False),
        (StatusCode.OK, "", False),
        (StatusCode.INVALID_ARGUMENT, "", False),
    ],
)
def test_what_leaves_it_open(code: StatusCode, details: str, is_open: bool) -> None:
    """A write may have been done unless the server refused it or it was never sent."""
    assert leaves_open(code, details) is is_open


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_send_returns_every_status(client: Client, controller: Controller, code: StatusCode) -> None:
    """`send` raises for no status; the typed method does."""
    controller.refuse("DeleteLease", code, "because")
    response = client.send(Request("DeleteLease", {"name": LEASE}))
    assert (response.code, response.details, response.body, response.json()) == (code, "because", None, {})
    with pytest.raises(RequestError):
        client.delete_lease("x")


def test_a_token_that_the_server_quotes_is_hidden(client: Client, controller: Controller) -> None:
    """A server that quotes our token in its text does not get it into an error."""
    controller.refuse("DeleteLease", grpc.StatusCode.UNKNOWN, f"bad token {TOKEN} for you")
    with pytest.raises(errors.StatusError, match=r"bad token \*\*\* for you") as caught:
        client.delete_lease("x")
    assert TOKEN not in f"{caught.value!r} {caught.value.response!r} {caught.value.request!r}"

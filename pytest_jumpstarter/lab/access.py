"""
Authentication and authorization of callers.

Source: Jumpstarter's controller: the order of the checks (token, metadata, object, user of the object), their status
codes and their texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc

from pytest_jumpstarter.lab.authority import Authority, TokenRejected
from pytest_jumpstarter.lab.kubernetes import find
from pytest_jumpstarter.lab.model import Client, Exporter, Model
from pytest_jumpstarter.lab.refusal import Refusal

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.refusal import Context

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_Object = TypeVar("_Object", Client, Exporter)


def parse_parent(name: str) -> str:
    """Return the namespace in `namespaces/NAMESPACE`."""
    return _segments(name, 2)[1]


def parse_name(name: str, kind: str) -> tuple[str, str]:
    """Return namespace and name in `namespaces/NAMESPACE/KIND/NAME`."""
    segments = _segments(name, 4)
    if segments[2] != kind:
        raise Refusal(
            f'invalid third segment in identifier "{name}", expecting "{kind}", got "{segments[2]}"', _INVALID
        )
    return segments[1], segments[3]


def bearer_token(context: Context) -> str:
    """Return the token in a call's `authorization` header."""
    headers = _metadata(context, "authorization")
    if not headers:
        raise Refusal("missing authorization header", grpc.StatusCode.UNAUTHENTICATED)
    if len(headers) > 1:
        raise Refusal("multiple authorization headers", _INVALID)
    if headers[0][:7].lower() != "bearer ":
        raise Refusal("malformed authorization header", _INVALID)
    return headers[0][7:].strip()


def is_exporter(context: Context) -> bool:
    """Return whether the caller says that it is an exporter."""
    return _metadata(context, "jumpstarter-kind") == ["Exporter"]


class Access:
    """Identifies callers by their token and metadata."""

    def __init__(self, model: Model, authority: Authority) -> None:
        self._model = model
        self._authority = authority

    def client(self, context: Context, *, namespace: str | None = None) -> Client:
        """Return the client that calls; refuse it if `namespace` is not its own."""
        client = self._caller(context, "Client", self._model.clients)
        if namespace is not None and namespace != client.namespace:
            raise Refusal("namespace mismatch", grpc.StatusCode.PERMISSION_DENIED)
        return client

    def exporter(self, context: Context) -> Exporter:
        """Return the exporter that calls."""
        return self._caller(context, "Exporter", self._model.exporters)

    def _caller(self, context: Context, kind: str, objects: dict[str, _Object]) -> _Object:
        try:
            subject = self._authority.verify(bearer_token(context))
        except TokenRejected as rejection:
            raise Refusal(str(rejection)) from rejection
        namespace = _one(context, "jumpstarter-namespace")
        claimed = _one(context, "jumpstarter-kind")
        names = _metadata(context, "jumpstarter-name")
        if len(names) != 1 or not names[0]:
            raise Refusal("resource name required for pre-existing authentication", _INVALID)
        if claimed != kind:
            raise Refusal("object kind mismatch", _INVALID)
        where = f"{kind.lower()} {namespace}/{names[0]}"
        if not namespace:
            raise Refusal(f"{where}: an empty namespace may not be set when a resource name is provided")
        try:
            found = find(objects if namespace == self._model.namespace else {}, f"{kind.lower()}s", names[0])
        except Refusal as refusal:
            raise Refusal(f"{where}: {refusal.text}") from refusal
        if found.subject != subject:
            raise Refusal(f"permission denied for {where}", grpc.StatusCode.PERMISSION_DENIED)
        return found


def _segments(name: str, count: int) -> list[str]:
    segments = name.split("/")
    if len(segments) != count:
        raise Refusal(
            f'invalid number of segments in identifier "{name}", expecting {count}, got {len(segments)}', _INVALID
        )
    if segments[0] != "namespaces":
        raise Refusal(
            f'invalid first segment in identifier "{name}", expecting "namespaces", got "{segments[0]}"', _INVALID
        )
    return segments


def _metadata(context: Context, key: str) -> list[str]:
    values = [value for known, value in context.invocation_metadata() or () if known == key]
    return [value if isinstance(value, str) else value.decode(errors="replace") for value in values]


def _one(context: Context, key: str) -> str:
    values = _metadata(context, key)
    if not values:
        raise Refusal(f"missing metadata: {key}", _INVALID)
    if len(values) > 1:
        raise Refusal(f"multiple metadata: {key}", _INVALID)
    return values[0]

"""One call, which is checked before it is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from pytest_jumpstarter.client.v1.build import build, did_you_mean
from pytest_jumpstarter.client.v1.rules import check
from pytest_jumpstarter.client.v1.service import SINCE, descriptors, message_class
from pytest_jumpstarter.client.v1.transcoding import HttpForm, http_form_of
from pytest_jumpstarter.errors import MethodUnavailable, RequestInvalid

_HEADER = re.compile(r"[a-z0-9_.-]+")
_OURS = ("authorization", "jumpstarter-", "grpc-", ":")


class Request:
    """
    One call of a method; an invalid one cannot be constructed. It never contains the token.

    Args:
        method: The method's name, `CreateLease`.
        body: The fields of its message as a mapping, or the message itself, which is copied.
        headers: Metadata to send along. The client adds its identity and token.
        timeout: Seconds for the whole call; None: the timeout of the client.

    Raises:
        RequestInvalid: The body does not match the description of the service.
        MethodUnavailable: The installed stubs are too old for the method.
    """

    __slots__ = ("body", "descriptor", "headers", "method", "timeout")

    def __init__(
        self,
        method: str,
        body: Mapping[str, Any] | Message | None = None,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.descriptor = _descriptor(method)
        self.method = method
        self.body = _body(self.descriptor, {} if body is None else body)
        self.headers: Mapping[str, str | bytes] = MappingProxyType(dict(headers or {}))
        self.timeout = timeout
        check(self.descriptor, self.body)
        _check_headers(self.headers)
        if timeout is not None and not timeout > 0:
            raise RequestInvalid(f"{method}: timeout must be more than 0 seconds, not {timeout}")

    @property
    def http(self) -> HttpForm | None:
        """Verb, URL and body of the call in HTTP; None if the method has no HTTP form."""
        return http_form_of(self.descriptor, self.body)

    def __repr__(self) -> str:
        form = self.http
        return f"<Request {self.method}{f' {form.verb} {form.url}' if form else ''}>"


def _descriptor(method: str) -> MethodDescriptor:
    known = descriptors()
    if method in known:
        return known[method]
    if method in SINCE:
        raise MethodUnavailable(
            f"{method} needs jumpstarter-protocol {SINCE[method]} or later; the one installed is older"
        )
    raise RequestInvalid(f"there is no method {method!r}; {did_you_mean(method, known)}")


def _body(descriptor: MethodDescriptor, body: Mapping[str, Any] | Message) -> Message:
    wanted = message_class(descriptor.input_type)
    if isinstance(body, Mapping):
        return build(descriptor.input_type, body)
    if not isinstance(body, wanted):
        raise RequestInvalid(f"{descriptor.name} takes a mapping or {wanted.__name__}, not {type(body).__name__}")
    copy = wanted()
    copy.CopyFrom(body)
    return copy


def _check_headers(headers: Mapping[str, str | bytes]) -> None:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise RequestInvalid(f"header {name!r} is malformed: lower-case letters, digits, '-', '_' and '.' only")
        if name.startswith(_OURS):
            raise RequestInvalid(f"header {name!r} is set by the client itself")
        if isinstance(value, bytes) != name.endswith("-bin"):
            raise RequestInvalid(f"header {name!r} must be {'bytes' if name.endswith('-bin') else 'text'}")
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise RequestInvalid(f"header {name!r} must be printable ASCII")

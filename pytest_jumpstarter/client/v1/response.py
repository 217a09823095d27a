"""The answer to one request, whatever its status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from pytest_jumpstarter.client.v1.failures import Failure, find_failure, leaves_open
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.tls import Proxy, split_endpoint
from pytest_jumpstarter.errors import ControllerUnreachable, Finality, RequestError, RequestTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRenewed:
    """Why there is no new token in place of an expired one; `is_passing`: trying again may help."""

    reason: str
    is_passing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The status of a call, and what came with it; the body is None unless the status is OK."""

    request: Request
    endpoint: str
    code: grpc.StatusCode
    details: str = ""
    headers: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    trailers: Mapping[str, str | bytes] = field(default_factory=dict, repr=False)
    body: Message | None = field(default=None, repr=False)  # RotateToken and Dial answer with a token
    elapsed: float = 0.0
    """Seconds from sending the request to the answer."""
    proxy: Proxy | None = None
    """The proxy that the call went through; None if there was none."""
    source: str = field(default="the client's arguments", repr=False)
    """Where endpoint and token came from, for messages."""
    not_renewed: NotRenewed | None = None
    """Why an expired token was not renewed; None if it did not expire, or nothing was tried."""

    def json(self) -> dict[str, Any]:
        """Return the body as JSON (`effectiveBeginTime`, times in RFC 3339, durations as `1.5s`); {} without a body."""
        from google.protobuf import json_format

        return {} if self.body is None else json_format.MessageToDict(self.body)

    @property
    def leaves_open(self) -> bool:
        """Whether a write may have succeeded despite this answer."""
        return leaves_open(self.code, self.details)

    @property
    def finality(self) -> Finality:
        """Whether the same request may be answered differently if it is sent again."""
        if self.not_renewed is not None and self.not_renewed.is_passing:
            return "passing"
        return "final" if self.code is grpc.StatusCode.OK else find_failure(self.code, self.details).finality

    def raise_for_status(self) -> Self:
        """
        Return this response if its status is OK.

        Raises:
            RequestError: The status is not OK; its class depends on the status (pytest_jumpstarter.errors).
        """
        if self.code is not grpc.StatusCode.OK:
            raise self.error()
        return self

    def error(self) -> RequestError:
        """Return the error for a status other than OK."""
        failure = find_failure(self.code, self.details)
        return failure.error(self._words(failure), request=self.request, response=self)

    def _words(self, failure: Failure) -> str:
        host, _ = split_endpoint(self.endpoint)
        on_the_way = issubclass(failure.error, ControllerUnreachable | RequestTimeout)
        way = f" through {self.proxy}" if on_the_way and self.proxy else ""
        text = shape(self.details)
        said = f" ({self.code.name}{': ' + text if text else ''})"
        advice = failure.advice.format(host=host, source=self.source)
        if way:
            around = f"check the proxy, or name {host} in no_proxy"
            advice = f"{around}; otherwise {advice}" if advice else around
        if self.not_renewed is not None:
            advice = f"{self.not_renewed.reason}; {advice}"
        what = failure.what.format(host=host, target=self.proxy.host if self.proxy else host)
        return f"{self.request.method} at {self.endpoint}{way}: {what}{said}{'; ' + advice if advice else ''}"


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

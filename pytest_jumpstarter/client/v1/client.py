"""The client, with a typed method for every method of the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grpc import StatusCode

from pytest_jumpstarter.client.v1.config import ClientConfig
from pytest_jumpstarter.client.v1.controller_connection import ControllerConnection
from pytest_jumpstarter.client.v1.facts import Exporter, Lease, RotatedToken, Route
from pytest_jumpstarter.client.v1.failures import find_failure, may_pass
from pytest_jumpstarter.client.v1.lease_creation import LeaseCreation
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import NotRenewed, Response
from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.service import SINCE, Methods, has_field, http_form, methods
from pytest_jumpstarter.client.v1.tls import Tls
from pytest_jumpstarter.errors import MethodUnavailable, StatusError, TokenExpired
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.selector import Selector

MOST_PAGES = 10_000
"""The most pages that are read of one list: who returns more never ends."""

_READ_PAUSES = (0.2, 0.5)  # seconds before the second and third try of a read


class Client:
    """
    A client of a lab controller's `jumpstarter.client.v1.ClientService`, safe to use from several threads.

    It connects at the first call. Names of leases and exporters may be short (`board-1`) or full
    (`namespaces/lab/exporters/board-1`) everywhere.

    Args:
        endpoint: `HOST:PORT` of the lab controller.
        token: The bearer token of the client; assign to `client.token` to replace it for later calls.
        namespace: The client's namespace.
        name: The client's name.
        ca: PEM certificates to trust instead of the system's.
        insecure_tls: Trust any certificate that the server sends, with a warning.
        grpc_options: More channel options, which override the defaults.
        timeout: Seconds for a call without a timeout of its own.
        source: Where these arguments came from, for error messages.

    Attributes:
        grpc_options: As given.
        renew: Called for a new token when the lab controller says that the token has expired; it returns None, or why,
            if there is none. None: not called.
        config: The client config that `from_config` used; None if the client was made otherwise.
        has_answered: Whether the lab controller has answered a request; trouble on the way is no answer.
        keeps_ids: Whether leases get the `lease_id` as their name; None until one was created.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        token: str,
        namespace: str,
        name: str,
        ca: bytes | None = None,
        insecure_tls: bool = False,
        grpc_options: Mapping[str, str | int] | None = None,
        timeout: float = 15.0,
        source: str = "the arguments of Client",
    ) -> None:
        token = Token(token)  # a traceback with local variables does not show it
        self.endpoint = endpoint
        self.namespace = namespace
        self.name = name
        self.tls = Tls(ca=ca, insecure=insecure_tls)
        self.grpc_options = dict(grpc_options or {})
        self.timeout = timeout
        self.renew: Callable[[], str | NotRenewed | None] | None = None
        self.config: ClientConfig | None = None
        self.has_answered = False
        self.keeps_ids: bool | None = None
        self._renewing = threading.Lock()
        self._connection = ControllerConnection(
            endpoint,
            token=token,
            namespace=namespace,
            name=name,
            tls=self.tls,
            grpc_options=self.grpc_options,
            source=source,
        )

    @classmethod
    def from_config(cls, config: ClientConfig | str | Path | None = None) -> Self:
        """Return a client for a client config; `ClientConfig.load(config)` finds it if it is not given."""
        if not isinstance(config, ClientConfig):
            config = ClientConfig.load(config)
        client = cls(
            config.endpoint,
            token=config.token,
            namespace=config.namespace,
            name=config.name,
            ca=config.tls.ca,
            insecure_tls=config.tls.insecure,
            grpc_options=config.grpc_options,
            source=config.source,
        )
        client.config = config
        return client

    @property
    def token(self) -> str:
        """The bearer token, whose repr is `***`; assign another one for later calls."""
        return self._connection.token

    @token.setter
    def token(self, token: str) -> None:
        self._connection.token = token

    @property
    def methods(self) -> Methods:
        """The methods of the service; `print(client.methods)` shows them as a table."""
        return methods()

    def supports(self, name: str) -> bool:
        """Return whether the installed stubs have a method (`RotateToken`) or a field (`Lease.tags`)."""
        message, dot, field = name.partition(".")
        return has_field(message, field) if dot else name in methods() and methods()[name].is_available

    def send(self, request: Request) -> Response:
        """
        Send a request and return the answer, whatever its status.

        If the lab controller is unavailable, a read (`Get`, `List`) is tried twice more within a second and within its
        timeout. A request that was refused because the token has expired is sent once more with a token from `renew`.
        Nothing else is sent twice.

        Raises:
            ControllerUnreachable: Insecure TLS was asked for, and the server sends no certificate.
        """
        token = self.token
        response = self._send(request)
        if _has_expired(response):
            other = self._other_token(token)
            response = self._send(request) if isinstance(other, str) else replace(response, not_renewed=other)
        self.has_answered = self.has_answered or response.finality == "final"
        return response

    def _other_token(self, expired: str) -> str | NotRenewed | None:
        """Return a token other than the expired one, or why there is none; other threads may need one too."""
        with self._renewing:
            if self.token == expired and self.renew is not None:
                found = self.renew()
                if not isinstance(found, str):
                    return found
                self.token = found
            return self.token if self.token != expired else None

    def _send(self, request: Request) -> Response:
        deadline = real_time.monotonic() + self._timeout(request)
        response = self._connection.call(request, timeout=self._timeout(request))
        for pause in _READ_PAUSES if _is_read(request) else ():
            if not may_pass(response.code, response.details) or real_time.monotonic() + pause >= deadline:
                break
            if self._connection.wait_closed(pause):
                break
            response = self._connection.call(request, timeout=deadline - real_time.monotonic())
        return response

    def get_exporter(self, name: str, *, timeout: float | None = None) -> Exporter:
        """Return one exporter."""
        return Exporter.from_message(self._do("GetExporter", {"name": self._full("exporters", name)}, timeout))

    def list_exporters(
        self,
        *,
        filter: str | None = None,  # noqa: A002 (the proto's word)
        page_size: int = 100,
        timeout: float | None = None,
    ) -> Iterator[Exporter]:
        """Return the exporters whose labels match the selector `filter`, page by page; `timeout` is for each page."""
        body = {"parent": self._parent, "filter": filter, "page_size": page_size}
        return map(Exporter.from_message, self._pages("ListExporters", body, "exporters", timeout))

    def get_lease(self, name: str, *, timeout: float | None = None) -> Lease:
        """Return one lease; it may belong to another client."""
        return Lease.from_message(self._do("GetLease", {"name": self._full("leases", name)}, timeout))

    def list_leases(
        self,
        *,
        filter: str | None = None,  # noqa: A002 (the proto's word)
        tag_filter: str | None = None,
        only_active: bool = True,
        page_size: int = 100,
        timeout: float | None = None,
    ) -> Iterator[Lease]:
        """
        Return leases of all clients of the namespace, page by page.

        Args:
            filter: A selector for the labels of the lease, which are the `key=value` terms of its own selector.
            tag_filter: A selector for the tags.
            only_active: Leave out leases that have ended.
            page_size: The number of leases in each page.
            timeout: Seconds for each page.
        """
        body: dict[str, Any] = {"parent": self._parent, "filter": filter, "page_size": page_size}
        tags, body["only_active"] = None, only_active
        if tag_filter is not None:
            self._need("ListLeasesRequest.tag_filter")
            tags, body["tag_filter"] = Selector.parse(tag_filter), tag_filter
        leases = map(Lease.from_message, self._pages("ListLeases", body, "leases", timeout))
        # Lab controllers before 0.8 ignore only_active, and before 0.9 tag_filter, so both are checked here too.
        return (
            lease
            for lease in leases
            if not (only_active and lease.is_ended) and (tags is None or tags.matches(lease.tags))
        )

    def create_lease(
        self,
        *,
        lease_id: str,
        selector: str | None = None,
        exporter_name: str | None = None,
        duration: float | None = None,
        begin_time: datetime | None = None,
        end_time: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        context: Mapping[str, str] | None = None,
        allow_disabled: bool = False,
        may_exist: bool = False,
        timeout: float | None = None,
    ) -> Lease:
        """
        Request a lease; it becomes Ready later, or never.

        If a failure leaves open whether the lease exists, the client looks for it, and else requests it again with the
        same id. A lab controller may name leases itself (after 0.9): the tag `lease`, with the id, finds such a lease.

        Args:
            lease_id: The name that is asked for; it must never have been used before.
            selector: Labels of the exporter, in any form; it is sent in the canonical one. This or `exporter_name`.
            exporter_name: The name of the exporter.
            duration: Seconds the lease lasts after it became Ready.
            begin_time: The lease begins at this time or later.
            end_time: The lease ends at this time or earlier.
            tags: Notes on the lease; left out if the installed stubs have no tags (`client.supports("Lease.tags")`).
            context: As `tags`, but the exporter gets it too (after 0.9); left out if the stubs do not have it.
            allow_disabled: Take `exporter_name` even if it is disabled.
            may_exist: Look first: the lease may exist, because an earlier call ended in an error that left it open.
            timeout: Seconds for the call, and as many again to resolve a failure.

        Raises:
            AlreadyExists: `lease_id` was used before, or belongs to another client.
            SelectorError: `selector` is not a selector.
        """
        canonical = str(Selector.parse(selector)) if selector else None
        lease: dict[str, Any] = {"selector": canonical, "exporter_name": exporter_name, "duration": duration}
        lease |= {"begin_time": begin_time, "end_time": end_time}
        notes = {"tags": tags, "context": context}
        lease |= {name: value for name, value in notes.items() if value and self.supports(f"Lease.{name}")}
        if allow_disabled:
            self._need("Lease.allow_disabled")
            lease["allow_disabled"] = True
        body = {"parent": self._parent, "lease_id": lease_id, "lease": lease}
        request = Request("CreateLease", body, timeout=timeout)
        return LeaseCreation(self, self._connection, request).settle(self._timeout(request), may_exist=may_exist)

    def update_lease(
        self,
        name: str,
        *,
        duration: float | None = None,
        begin_time: datetime | None = None,
        end_time: datetime | None = None,
        client: str | None = None,
        timeout: float | None = None,
    ) -> Lease:
        """
        Change a lease of this client.

        Args:
            name: The lease.
            duration: The whole duration in seconds from the start of the lease, not an extension.
            begin_time: A new begin time; only before the lease has begun, and only together with `duration`.
            end_time: A new end time; only together with `duration` or `begin_time`.
            client: The client that gets the lease.
            timeout: Seconds for the call.
        """
        changes: dict[str, Any] = {"duration": duration, "begin_time": begin_time, "end_time": end_time}
        changes["client"] = None if client is None else self._full("clients", client)
        changes = {field: value for field, value in changes.items() if value is not None}
        if not changes:
            raise TypeError("update_lease needs something to change: duration, begin_time, end_time or client")
        body = {"lease": {"name": self._full("leases", name), **changes}, "update_mask": list(changes)}
        return Lease.from_message(self._do("UpdateLease", body, timeout))

    def delete_lease(self, name: str, *, timeout: float | None = None) -> None:
        """
        Release a lease of this client; the lab controller ends it shortly after.

        Raises:
            AlreadyReleased: The lease was already released.
            NotFound: There is no such lease.
        """
        self._do("DeleteLease", {"name": self._full("leases", name)}, timeout)

    def rotate_token(self, *, timeout: float | None = None) -> RotatedToken:
        """Return a new token for this client; assign it to `client.token` to use it."""
        return RotatedToken.from_message(self._do("RotateToken", {"parent": self._parent}, timeout))

    def dial(self, lease: str, *, timeout: float = 15.0) -> Route:
        """
        Return a route to the exporter of a lease; it is good for one connection.

        Raises:
            NotReady: The exporter does not accept connections yet.
        Source: jumpstarter.v1.ControllerService Dial
        """
        name = lease.removeprefix(f"{self._parent}/leases/")
        return Route.from_message(self._do("Dial", {"lease_name": name}, timeout))

    def renew_connection(self) -> None:
        """Connect anew for later calls; call this in another thread after a signal that may have interrupted a call."""
        self._connection.renew()

    def close(self) -> None:
        """Close the channel; running calls are cancelled, later ones raise an error."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.namespace}/{self.name} at {self.endpoint}>"

    @property
    def _parent(self) -> str:
        return f"namespaces/{self.namespace}"

    def _full(self, kind: str, name: str) -> str:
        return name if "/" in name else f"{self._parent}/{kind}/{name}"

    def _timeout(self, request: Request) -> float:
        return self.timeout if request.timeout is None else request.timeout

    def _do(self, method: str, body: Mapping[str, Any], timeout: float | None) -> Any:
        return self.send(Request(method, body, timeout=timeout)).raise_for_status().body

    def _pages(self, method: str, body: dict[str, Any], items: str, timeout: float | None) -> Iterator[Any]:
        """Check the first request now; send it, and the requests for more pages, when their items are needed."""
        return self._follow(Request(method, body, timeout=timeout), items)

    def _follow(self, request: Request, items: str) -> Iterator[Any]:
        page: Any = request.body
        for number in range(1, MOST_PAGES + 1):
            response = self.send(request).raise_for_status()
            answer: Any = response.body
            yield from getattr(answer, items)
            if not answer.next_page_token:
                return
            if answer.next_page_token == page.page_token or number == MOST_PAGES:
                what = "the same page again and again" if number < MOST_PAGES else f"more than {MOST_PAGES} pages"
                raise StatusError(
                    f"{request.method} at {self.endpoint}: the lab controller returns {what}",
                    request=request,
                    response=response,
                )
            page.page_token = answer.next_page_token

    def _need(self, field: str) -> None:
        if not self.supports(field):
            raise MethodUnavailable(
                f"{field} needs jumpstarter-protocol {SINCE[field]} or later; the one installed is older"
            )


def _is_read(request: Request) -> bool:
    """Return whether a request only reads: its HTTP form is a GET."""
    form = http_form(request.descriptor)
    return form is not None and form[0] == "GET"


def _has_expired(response: Response) -> bool:
    """Return whether a request was refused because the token has expired, before it was carried out."""
    return response.code is not StatusCode.OK and find_failure(response.code, response.details).error is TokenExpired

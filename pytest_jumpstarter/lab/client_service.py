"""
jumpstarter.client.v1.ClientService: what clients can see and change.

Source: jumpstarter/client/v1/client.proto. Each handler checks in the order of the production controller.
"""

# RPCs have the names of the protocol.
# ruff: noqa: N802

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING

import grpc
from google.protobuf.empty_pb2 import Empty
from jumpstarter_protocol import client_pb2, client_pb2_grpc

from pytest_jumpstarter.lab import requests, selectors, wire
from pytest_jumpstarter.lab.access import Access, parse_name, parse_parent
from pytest_jumpstarter.lab.authority import Authority
from pytest_jumpstarter.lab.kubernetes import find, new_lease_name
from pytest_jumpstarter.lab.model import Lease, Model
from pytest_jumpstarter.lab.refusal import Refusal, answering
from pytest_jumpstarter.lab.scheduler import Scheduler

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.refusal import Context

_BAD_TOKEN = "invalid continue token: continue key is not valid"


class ClientService(client_pb2_grpc.ClientServiceServicer):
    """Serves clients; every change of a lease goes through the scheduler."""

    def __init__(self, model: Model, scheduler: Scheduler, access: Access, authority: Authority) -> None:
        self._model = model
        self._scheduler = scheduler
        self._access = access
        self._authority = authority

    @answering
    async def GetExporter(self, request: client_pb2.GetExporterRequest, context: Context) -> client_pb2.Exporter:
        """Return one exporter."""
        namespace, name = parse_name(request.name, "exporters")
        self._access.client(context, namespace=namespace)
        return wire.exporter_message(find(self._model.exporters, "exporters", name))

    @answering
    async def ListExporters(
        self, request: client_pb2.ListExportersRequest, context: Context
    ) -> client_pb2.ListExportersResponse:
        """Return exporters sorted by name, page by page."""
        self._access.client(context, namespace=parse_parent(request.parent))
        wanted = selectors.list_filter(request.filter)
        names = [name for name, it in self._model.exporters.items() if not wanted or wanted.matches(it.labels)]
        page, token = _page(names, request.page_size, request.page_token)
        return client_pb2.ListExportersResponse(
            exporters=[wire.exporter_message(self._model.exporters[name]) for name in page], next_page_token=token
        )

    @answering
    async def GetLease(self, request: client_pb2.GetLeaseRequest, context: Context) -> client_pb2.Lease:
        """Return one lease, whoever owns it."""
        namespace, name = parse_name(request.name, "leases")
        self._access.client(context, namespace=namespace)
        return wire.lease_message(find(self._model.leases, "leases", name))

    @answering
    async def ListLeases(
        self, request: client_pb2.ListLeasesRequest, context: Context
    ) -> client_pb2.ListLeasesResponse:
        """Return the leases of all clients sorted by name, page by page; ended ones only on request."""
        self._access.client(context, namespace=parse_parent(request.parent))
        labels, tags = selectors.list_filter(request.filter), selectors.tag_filter(request.tag_filter)
        only_active = request.only_active or not request.HasField("only_active")
        leases = self._model.open_leases if only_active else self._model.leases
        names = sorted(
            name
            for name, lease in leases.items()
            if (not labels or labels.matches(lease.labels)) and (not tags or tags.matches(lease.tags))
        )
        page, token = _page(names, request.page_size, request.page_token)
        return client_pb2.ListLeasesResponse(
            leases=[wire.lease_message(self._model.leases[name]) for name in page], next_page_token=token
        )

    @answering
    async def CreateLease(self, request: client_pb2.CreateLeaseRequest, context: Context) -> client_pb2.Lease:
        """Create a lease; the answer is the lease as requested, before an exporter is assigned."""
        requests.check_target(request)
        requests.check_tags(request.lease.tags)
        client = self._access.client(context, namespace=parse_parent(request.parent))
        selector = selectors.lease_selector(request.lease.selector)
        times = requests.Times.of(request.lease).settle()
        name = request.lease_id or new_lease_name()
        requests.check_lease(name, selector, request.lease.exporter_name)
        if name in self._model.leases:
            raise Refusal(f'leases.jumpstarter.dev "{name}" already exists')
        lease = Lease(
            namespace=client.namespace,
            name=name,
            client=client.name,
            selector=selector,
            exporter_name=request.lease.exporter_name,
            duration=times.duration,
            begin_time=_whole(times.begin_time),
            end_time=_whole(times.end_time),
            tags=dict(request.lease.tags),
            allow_disabled=request.lease.allow_disabled,
        )
        self._scheduler.add(lease)
        return wire.lease_message(lease)

    @answering
    async def UpdateLease(self, request: client_pb2.UpdateLeaseRequest, context: Context) -> client_pb2.Lease:
        """Change the times of a lease, or transfer it; the fields that are set count, not the mask."""
        if not request.HasField("lease"):
            raise Refusal("panic caught: runtime error: invalid memory address or nil pointer dereference")
        namespace, name = parse_name(request.lease.name, "leases")
        client = self._access.client(context, namespace=namespace)
        lease = find(self._model.leases, "leases", name)
        if lease.client != client.name:
            raise Refusal("UpdateLease permission denied")
        times = self._new_times(lease, request.lease)
        new_client = self._new_client(lease, request.lease.client)
        if times:
            settled = times.settle()
            lease.begin_time, lease.end_time = _whole(settled.begin_time), _whole(settled.end_time)
            lease.duration = settled.duration
            self._scheduler.change(lease)
        if new_client:
            self._scheduler.transfer(lease, new_client)
        return wire.lease_message(lease)

    @answering
    async def DeleteLease(self, request: client_pb2.DeleteLeaseRequest, context: Context) -> Empty:
        """Mark a lease for release; it ends a moment later and can still be read."""
        namespace, name = parse_name(request.name, "leases")
        client = self._access.client(context, namespace=namespace)
        lease = find(self._model.leases, "leases", name)
        if lease.client != client.name:
            raise Refusal("DeleteLease permission denied")
        if lease.is_released:
            raise Refusal(f'lease "{request.name}" has already been released', grpc.StatusCode.FAILED_PRECONDITION)
        self._scheduler.release(lease)
        return Empty()

    @answering
    async def RotateToken(
        self, request: client_pb2.RotateTokenRequest, context: Context
    ) -> client_pb2.RotateTokenResponse:
        """Return a new token for the caller; the old one is valid until it expires."""
        client = self._access.client(context, namespace=parse_parent(request.parent))
        token, expiry = self._authority.issue(client.subject)
        return client_pb2.RotateTokenResponse(token=token, expiry=wire.timestamp(expiry))

    def _new_times(self, lease: Lease, wanted: client_pb2.Lease) -> requests.Times | None:
        """Return the times of `lease` after the requested change; None if no change is requested."""
        asked = requests.Times.of(wanted)
        if asked == requests.Times(begin_time=None, end_time=None, duration=None):
            return None
        selectors.lease_selector(wanted.selector)  # the production controller parses it, and then ignores it
        settled = asked.settle()
        if asked.begin_time is not None and lease.exporter and lease.begin_time != asked.begin_time:
            raise Refusal("cannot update BeginTime: lease has already started")
        return requests.Times(
            begin_time=lease.begin_time if asked.begin_time is None else settled.begin_time,
            end_time=lease.end_time if asked.end_time is None else settled.end_time,
            duration=lease.duration if asked.duration is None else settled.duration,
        )

    def _new_client(self, lease: Lease, identifier: str) -> str | None:
        if not identifier:
            return None
        if lease.exporter is None:
            raise Refusal("cannot transfer lease: lease has not started yet")
        if lease.is_ended:
            raise Refusal("cannot transfer lease: lease has already ended")
        namespace, name = parse_name(identifier, "clients")
        if namespace != lease.namespace:
            raise Refusal("cannot transfer lease to client in different namespace")
        try:
            return find(self._model.clients, "clients", name).name
        except Refusal as refusal:
            raise Refusal(f"target client not found: {refusal.text}") from refusal


def _whole(time: float | None) -> float | None:
    """Round a time down to whole seconds, as Kubernetes stores it."""
    return None if time is None else time // 1


def _page(names: list[str], size: int, token: str) -> tuple[Iterable[str], str]:
    """Return one page of sorted `names`, and the token for the next one: the last name of this page."""
    begin = bisect_right(names, _decode(token)) if token else 0
    if size <= 0 or begin + size >= len(names):
        return names[begin:], ""
    page = names[begin : begin + size]
    return page, base64.urlsafe_b64encode(json.dumps({"start": page[-1]}).encode()).decode().rstrip("=")


def _decode(token: str) -> str:
    """Return the name in a page token; refuse one that is none, in the words of Kubernetes."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars="-_", validate=True)
    except ValueError as error:
        raise Refusal(f"{_BAD_TOKEN}: illegal base64 data at input byte 0") from error
    try:
        return str(json.loads(data)["start"])
    except (ValueError, TypeError, LookupError) as error:
        first = data[:1].decode(errors="replace")
        raise Refusal(f"{_BAD_TOKEN}: invalid character '{first}' looking for beginning of value") from error

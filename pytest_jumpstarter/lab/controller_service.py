"""
jumpstarter.v1.ControllerService: what exporters report and receive, and how a client dials an exporter.

Source: jumpstarter/v1/jumpstarter.proto.
"""

# RPCs have the names of the protocol.
# ruff: noqa: N802

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import grpc
from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc

from pytest_jumpstarter.lab import requests, selectors, wire
from pytest_jumpstarter.lab.access import Access, is_exporter
from pytest_jumpstarter.lab.kubernetes import find, new_lease_name
from pytest_jumpstarter.lab.model import Exporter, Lease, Model, Status
from pytest_jumpstarter.lab.refusal import Refusal, answering, streaming
from pytest_jumpstarter.lab.router import Router
from pytest_jumpstarter.lab.scheduler import Scheduler

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.refusal import Context

DIAL_WAIT = 30.0
"""Seconds for which a Dial waits while its exporter has not started the lease."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 3.0  # between two looks of a Dial that waits, as with Jumpstarter 0.9
_FIRST_LEASE = 0.3
"""
Seconds for which a new exporter is not told that nobody leases it: for 0.2 s after that it would take no lease.

So the first test of a run with a lab of its own does not wait. Source: `Exporter.serve` of Jumpstarter 0.9
"""
_QUEUE_SIZE = 8
_DIALLED = (Status.LEASE_READY, Status.BEFORE_LEASE_HOOK, Status.AFTER_LEASE_HOOK, Status.UNSPECIFIED)
_UNREADY = {
    Status.OFFLINE: "exporter is offline",
    Status.AVAILABLE: "exporter is not ready (status: Available)",
    Status.BEFORE_LEASE_HOOK_FAILED: "exporter beforeLease hook failed",
    Status.AFTER_LEASE_HOOK_FAILED: "exporter afterLease hook failed",
}


class _Listener:
    """The dials that one Listen stream must still send to its exporter."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[jumpstarter_pb2.ListenResponse | None] = asyncio.Queue()

    @property
    def is_full(self) -> bool:
        return self._queue.qsize() >= _QUEUE_SIZE

    def put(self, dial: jumpstarter_pb2.ListenResponse) -> None:
        self._queue.put_nowait(dial)

    def supersede(self) -> None:
        """End the stream after the queued dials: a newer one replaces it."""
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncGenerator[jumpstarter_pb2.ListenResponse, None]:
        while (dial := await self._queue.get()) is not None:
            yield dial


class ControllerService(jumpstarter_pb2_grpc.ControllerServiceServicer):
    """
    Serves exporters, and clients that dial.

    GetLease, RequestLease and ListLeases are for clients before 0.7. AuditStream is UNIMPLEMENTED, as in production.
    """

    def __init__(self, model: Model, scheduler: Scheduler, access: Access, router: Router) -> None:
        self._model = model
        self._scheduler = scheduler
        self._access = access
        self._router = router
        self._listeners: dict[str, _Listener] = {}

    @answering
    async def Register(
        self, request: jumpstarter_pb2.RegisterRequest, context: Context
    ) -> jumpstarter_pb2.RegisterResponse:
        """Register an exporter with its drivers."""
        exporter = self._access.exporter(context)
        exporter.register(request.labels, len(request.reports))
        self._scheduler.wake()
        return jumpstarter_pb2.RegisterResponse(uuid=exporter.uid)

    @answering
    async def Unregister(
        self, request: jumpstarter_pb2.UnregisterRequest, context: Context
    ) -> jumpstarter_pb2.UnregisterResponse:
        """Unregister an exporter: it is offline from now on."""
        exporter = self._access.exporter(context)
        exporter.devices = None
        exporter.set_status(Status.OFFLINE, request.reason or "Exporter unregistered")
        self._scheduler.wake()
        return jumpstarter_pb2.UnregisterResponse()

    @answering
    async def ReportStatus(
        self, request: jumpstarter_pb2.ReportStatusRequest, context: Context
    ) -> jumpstarter_pb2.ReportStatusResponse:
        """Set the status of an exporter, which may request in the same call that its lease is released."""
        exporter = self._access.exporter(context)
        status = Status(request.status) if request.status in set(Status) else Status.UNSPECIFIED
        self._scheduler.report(exporter, status, request.message)
        if request.release_lease and exporter.lease and not exporter.lease.is_released:
            self._scheduler.release(exporter.lease)
        return jumpstarter_pb2.ReportStatusResponse()

    @streaming
    async def Status(
        self, _request: jumpstarter_pb2.StatusRequest, context: Context
    ) -> AsyncGenerator[jumpstarter_pb2.StatusResponse, None]:
        """
        Send an exporter whether it is leased, first at once, then on each change; the stream is its heartbeat.

        Only one that connects for the first time has to wait for the word that nobody leases it (`_FIRST_LEASE`).
        """
        exporter = self._access.exporter(context)
        feed = self._scheduler.connect(exporter)
        is_new, exporter.was_told = not exporter.was_told and exporter.has_seen_idle, True
        try:
            view = await (feed.first(_FIRST_LEASE) if is_new else feed.get())
            while True:
                if view.is_leased:
                    yield jumpstarter_pb2.StatusResponse(leased=True, lease_name=view.lease, client_name=view.client)
                else:
                    yield jumpstarter_pb2.StatusResponse(leased=False)
                    self._scheduler.confirm_idle(exporter, feed)  # the message before was sent
                view = await feed.get()
        finally:
            self._scheduler.disconnect(exporter, feed)

    @streaming
    async def Listen(
        self, request: jumpstarter_pb2.ListenRequest, context: Context
    ) -> AsyncGenerator[jumpstarter_pb2.ListenResponse, None]:
        """Send the dials of a lease to its exporter; a newer stream for the same lease replaces this one."""
        exporter = self._access.exporter(context)
        lease = self._lease(request.lease_name)
        if lease.exporter != exporter.name:
            raise Refusal("permission denied")
        listener = _Listener()
        if older := self._listeners.get(lease.name):
            older.supersede()
        self._listeners[lease.name] = listener
        try:
            async for dial in listener:
                yield dial
        finally:
            if self._listeners.get(lease.name) is listener:
                del self._listeners[lease.name]

    @answering
    async def Dial(self, request: jumpstarter_pb2.DialRequest, context: Context) -> jumpstarter_pb2.DialResponse:
        """Return a router and a token for one stream to a client, and send them to the exporter of its lease."""
        client = self._access.client(context)
        lease = self._lease(request.lease_name)
        if lease.client != client.name:
            raise Refusal("permission denied")
        if lease.exporter is None:
            raise Refusal("lease not active")
        await wait_ready(self._model.exporters[lease.exporter])
        listener = self._listeners.get(lease.name)
        if listener is None:
            raise Refusal(f"exporter is not listening on lease {lease.name}", grpc.StatusCode.UNAVAILABLE)
        if listener.is_full:
            raise Refusal(f"listener buffer full on lease {lease.name}", grpc.StatusCode.RESOURCE_EXHAUSTED)
        endpoint, token = self._router.issue(lease.name)
        listener.put(jumpstarter_pb2.ListenResponse(router_endpoint=endpoint, router_token=token))
        return jumpstarter_pb2.DialResponse(router_endpoint=endpoint, router_token=token)

    @answering
    async def ReleaseLease(
        self, request: jumpstarter_pb2.ReleaseLeaseRequest, context: Context
    ) -> jumpstarter_pb2.ReleaseLeaseResponse:
        """Mark a lease for release, for its client or its exporter; a second call does nothing."""
        lease = (
            self._held_lease(request.name, context) if is_exporter(context) else self._own_lease(request.name, context)
        )
        if not lease.is_ended and not lease.is_released:
            self._scheduler.release(lease)
        return jumpstarter_pb2.ReleaseLeaseResponse()

    @answering
    async def GetLease(
        self, request: jumpstarter_pb2.GetLeaseRequest, context: Context
    ) -> jumpstarter_pb2.GetLeaseResponse:
        """Return a lease of the caller."""
        client = self._access.client(context)
        lease = find(self._model.leases, "leases", request.name)
        if lease.client != client.name:
            raise Refusal("GetLease permission denied")
        exporter = self._model.exporters[lease.exporter] if lease.exporter else None
        return wire.legacy_lease_message(lease, exporter)

    @answering
    async def RequestLease(
        self, request: jumpstarter_pb2.RequestLeaseRequest, context: Context
    ) -> jumpstarter_pb2.RequestLeaseResponse:
        """Create a lease with a new name."""
        client = self._access.client(context)
        selector, name = selectors.legacy_selector(request.selector), new_lease_name()
        requests.check_lease(name, selector, "")
        times = requests.Times(begin_time=None, end_time=None, duration=wire.seconds(request.duration)).settle()
        self._scheduler.add(
            Lease(
                namespace=client.namespace,
                name=name,
                client=client.name,
                selector=selector,
                duration=times.duration,
            )
        )
        return jumpstarter_pb2.RequestLeaseResponse(name=name)

    @answering
    async def ListLeases(
        self, _request: jumpstarter_pb2.ListLeasesRequest, context: Context
    ) -> jumpstarter_pb2.ListLeasesResponse:
        """Return the names of the caller's leases that have not ended."""
        client = self._access.client(context)
        names = sorted(name for name, lease in self._model.open_leases.items() if lease.client == client.name)
        return jumpstarter_pb2.ListLeasesResponse(names=names)

    def _held_lease(self, name: str, context: Context) -> Lease:
        exporter = self._access.exporter(context)
        lease = self._model.leases.get(name)
        if lease is None:
            raise Refusal(f"lease {name} not found", grpc.StatusCode.NOT_FOUND)
        if lease.exporter != exporter.name:
            raise Refusal(f"lease {name} is not held by exporter {exporter.name}", grpc.StatusCode.FAILED_PRECONDITION)
        return lease

    def _own_lease(self, name: str, context: Context) -> Lease:
        client = self._access.client(context)
        lease = find(self._model.leases, "leases", name)
        if lease.client != client.name:
            raise Refusal("ReleaseLease permission denied")
        return lease

    def _lease(self, name: str) -> Lease:
        if not name:
            raise Refusal("empty lease name")
        return find(self._model.leases, "leases", name)


async def wait_ready(exporter: Exporter) -> None:
    """
    Wait until the exporter has started its lease; refuse if it cannot be dialled.

    The exporter is looked at after pauses, as in production: a Dial that comes too early takes half a second.
    """
    waited, pause = 0.0, _FIRST_PAUSE
    while exporter.status is Status.AVAILABLE and waited + pause <= DIAL_WAIT:
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)
    if exporter.status not in _DIALLED:
        raise Refusal(_UNREADY[exporter.status], grpc.StatusCode.FAILED_PRECONDITION)

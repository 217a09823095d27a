"""Peers of the lab that speak the bare protocol: whatever a test wants to say, in whatever order."""

from __future__ import annotations

import base64
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_protocol import client_pb2, client_pb2_grpc, jumpstarter_pb2, jumpstarter_pb2_grpc, router_pb2_grpc

TIMEOUT = 20.0

Metadata = list[tuple[str, str]]


def wait_for(condition: Callable[[], Any], what: str, *, timeout: float = TIMEOUT) -> Any:
    """Return the first true value of `condition`; fail, naming what was waited for, when none comes."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)
    return value


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the status code and text with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value  # it is a grpc.Call as well
    return error.code().name, error.details() or ""


class Peer:
    """A client or exporter of a lab, by its config file; `metadata` is what it sends with each call."""

    def __init__(self, config: Path) -> None:
        content = yaml.safe_load(config.read_text())
        self.endpoint = content["endpoint"]
        self.token = content["token"]
        self.name = content["metadata"]["name"]
        self.kind = content["kind"].removesuffix("Config")
        self.roots = base64.b64decode(content["tls"]["ca"])
        self.channel = grpc.secure_channel(
            self.endpoint,
            grpc.ssl_channel_credentials(self.roots),
            options=[("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)],
        )
        self.clients: Any = client_pb2_grpc.ClientServiceStub(self.channel)
        self.controller: Any = jumpstarter_pb2_grpc.ControllerServiceStub(self.channel)
        self.router: Any = router_pb2_grpc.RouterServiceStub(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    @property
    def metadata(self) -> Metadata:
        """What a well-behaved peer sends."""
        return [
            ("jumpstarter-kind", self.kind),
            ("jumpstarter-namespace", "lab"),
            ("jumpstarter-name", self.name),
            ("authorization", f"Bearer {self.token}"),
        ]

    def call(self, method: Any, request: Any, *, metadata: Metadata | None = None, timeout: float = TIMEOUT) -> Any:
        """Call a unary method."""
        return method(request, metadata=self.metadata if metadata is None else metadata, timeout=timeout)

    def create(self, lease_id: str = "", *, duration: float | None = 600.0, **fields: Any) -> client_pb2.Lease:
        """Create a lease."""
        lease = client_pb2.Lease(**fields)
        if duration is not None:
            lease.duration.CopyFrom(seconds(duration))
        request = client_pb2.CreateLeaseRequest(parent="namespaces/lab", lease_id=lease_id, lease=lease)
        created: client_pb2.Lease = self.call(self.clients.CreateLease, request)
        return created

    def lease(self, name: str) -> client_pb2.Lease:
        """Return a lease as it is now; `name` is its resource name."""
        lease: client_pb2.Lease = self.call(self.clients.GetLease, client_pb2.GetLeaseRequest(name=name))
        return lease

    def await_condition(self, name: str, kind: str, status: str, reason: str) -> client_pb2.Lease:
        """Wait until a lease has a condition, and return the lease."""

        def found() -> client_pb2.Lease | None:
            lease = self.lease(name)
            has = any((it.type, it.status, it.reason) == (kind, status, reason) for it in lease.conditions)
            return lease if has else None

        lease: client_pb2.Lease = wait_for(found, f"{kind}={status}/{reason} of {name}")
        return lease

    def delete(self, name: str) -> None:
        """Release a lease."""
        self.call(self.clients.DeleteLease, client_pb2.DeleteLeaseRequest(name=name))

    def delete_all(self) -> None:
        """Release all leases of this client that are not released, and wait until they have ended."""
        request = client_pb2.ListLeasesRequest(parent="namespaces/lab")

        def own() -> list[str]:
            leases = self.call(self.clients.ListLeases, request).leases
            return [lease.name for lease in leases if lease.client.endswith(f"/{self.name}")]

        for name in own():
            with contextlib.suppress(grpc.RpcError):  # released already; what matters is that it ends
                self.delete(name)
        wait_for(lambda: not own(), "the end of all leases")

    def exporter(self, name: str) -> client_pb2.Exporter:
        """Return an exporter as it is now."""
        request = client_pb2.GetExporterRequest(name=f"namespaces/lab/exporters/{name}")
        exporter: client_pb2.Exporter = self.call(self.clients.GetExporter, request)
        return exporter

    def dial(self, lease: str, *, timeout: float = TIMEOUT) -> jumpstarter_pb2.DialResponse:
        """Dial the exporter of a lease; `lease` is the bare name."""
        request = jumpstarter_pb2.DialRequest(lease_name=lease)
        answer: jumpstarter_pb2.DialResponse = self.call(self.controller.Dial, request, timeout=timeout)
        return answer

    def stream(self, token: str, frames: Iterable[bytes] | Iterator[bytes]) -> Any:
        """Open a router stream that sends `frames`, encoded already, and yields what comes back undecoded."""
        method: Any = self.channel.stream_stream("/jumpstarter.v1.RouterService/Stream")
        return method(iter(frames), metadata=[("authorization", f"Bearer {token}")], timeout=TIMEOUT)


class ManualExporter(Peer):
    """An exporter that does only what a test tells it to."""

    def __init__(self, config: Path) -> None:
        super().__init__(config)
        self._statuses: list[Any] = []

    def __exit__(self, *details: object) -> None:
        self.call(self.controller.Unregister, jumpstarter_pb2.UnregisterRequest(reason="the test is over"))
        for stream in self._statuses:
            stream.cancel()
        super().__exit__(*details)

    def join(self) -> None:
        """Register, say AVAILABLE, and open the status stream, as Jumpstarter's exporter does."""
        self.register()
        self.report("AVAILABLE")
        self.status = self.watch()
        assert self.status.next().leased is False

    def register(self, **labels: str) -> str:
        """Register with two drivers; return the uuid that the lab knows this exporter by."""
        reports = [jumpstarter_pb2.DriverInstanceReport(uuid=str(number)) for number in range(2)]
        request = jumpstarter_pb2.RegisterRequest(labels=labels, reports=reports)
        uuid: str = self.call(self.controller.Register, request).uuid
        return uuid

    def report(self, status: str, message: str = "", *, release: bool = False) -> None:
        """Report a status by its name."""
        number = STATUSES.index(status)
        request = jumpstarter_pb2.ReportStatusRequest(status=number, message=message, release_lease=release)
        self.call(self.controller.ReportStatus, request)

    def watch(self) -> Items:
        """Open a status stream."""
        call = self.controller.Status(jumpstarter_pb2.StatusRequest(), metadata=self.metadata)
        self._statuses.append(call)
        return Items(call)

    def listen(self, lease: str) -> Items:
        """Open a listen stream for a lease."""
        request = jumpstarter_pb2.ListenRequest(lease_name=lease)
        call = self.controller.Listen(request, metadata=self.metadata)
        self._statuses.append(call)
        return Items(call)

    def release(self, lease: str) -> None:
        """Release the lease as its exporter."""
        self.call(self.controller.ReleaseLease, jumpstarter_pb2.ReleaseLeaseRequest(name=lease))


class Items:
    """The items of a stream from the lab, each awaited for a bounded time."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._queue: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()

    def next(self, *, timeout: float = TIMEOUT) -> Any:
        """Return the next item; raise what ended the stream, or StopIteration."""
        item = self._queue.get(timeout=timeout)
        if isinstance(item, Exception):
            raise item
        return item

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that was not taken."""
        return self._queue.empty()

    def _collect(self) -> None:
        try:
            for item in self.call:
                self._queue.put(item)
            self._queue.put(EOFError("the stream ended"))
        except grpc.RpcError as error:
            self._queue.put(error)


def at(offset: float) -> Timestamp:
    """Return the time `offset` whole seconds from now."""
    return Timestamp(seconds=int(time.time() + offset))


def conditions(lease: client_pb2.Lease) -> list[tuple[str, str, str, str]]:
    """Return type, status, reason and message of all conditions."""
    return [(it.type, it.status, it.reason, it.message) for it in lease.conditions]


def listed_leases(peer: Peer, **fields: Any) -> list[str]:
    """Return the names of the leases that ListLeases gives."""
    request = client_pb2.ListLeasesRequest(parent="namespaces/lab", **fields)
    return [lease.name for lease in peer.call(peer.clients.ListLeases, request).leases]


STATUSES = (
    "UNSPECIFIED",
    "OFFLINE",
    "AVAILABLE",
    "BEFORE_LEASE_HOOK",
    "LEASE_READY",
    "AFTER_LEASE_HOOK",
    "BEFORE_LEASE_HOOK_FAILED",
    "AFTER_LEASE_HOOK_FAILED",
)


def seconds(value: float) -> Duration:
    """Return a duration."""
    return Duration(seconds=int(value // 1), nanos=round(value % 1 * 1e9))

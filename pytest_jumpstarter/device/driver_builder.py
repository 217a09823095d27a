"""
Driver clients that are built when they are first looked up.

To build a client, its class and all that its package imports must be imported, which for some takes 0.2 s and 30 MiB;
and a board may have many drivers that a test never uses. So the children of a composite driver are built when they are
first looked up, by Jumpstarter's own code, from what the exporter reported when it was connected.

Source: jumpstarter.v1.ExporterService GetReport
"""

from __future__ import annotations

import logging
import threading
from collections import UserDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_jumpstarter.device.drivers import (
    CLIENT_LABEL,
    Driver,
    DriverPlace,
    DriverPolicy,
    Drivers,
    MissingDriver,
    mark_missing,
)
from pytest_jumpstarter.device.portal import LoopNeeded, run_here
from pytest_jumpstarter.errors import DeviceReleased, DriverMissing, JumpstarterError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from grpc.aio import Channel
    from jumpstarter.client import DriverClient
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport, GetReportResponse

_NAME_LABEL = "jumpstarter.dev/name"
_COMPOSITE = "jumpstarter_driver_composite.client.CompositeClient"
"""The class that only holds its children; other classes may use their children when they are built."""


@dataclass(slots=True)
class _ReportedDriver:
    """
    One driver at one place in an exporter's report.

    Attributes:
        path: Its dotted path; empty for the root.
        children: Its child drivers by name.
    """

    report: DriverInstanceReport
    path: str = ""
    children: dict[str, _ReportedDriver] = field(default_factory=dict)

    @property
    def class_path(self) -> str:
        """The class of its client."""
        return self.report.labels[CLIENT_LABEL]

    @property
    def is_composite(self) -> bool:
        """Whether its client only holds its children, so that these can be built later."""
        return self.class_path == _COMPOSITE

    def walk(self) -> Iterator[_ReportedDriver]:
        """Yield this driver and all below it in the order of the report: parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def places(self) -> Iterator[tuple[str, DriverPlace]]:
        """Yield the paths and places of all drivers below it, in the same order."""
        for name, child in self.children.items():
            yield child.path, DriverPlace(self.path, name, child.report.uuid, child.class_path)
            yield from child.places()

    def clients(self, client: Driver) -> Iterator[tuple[str, DriverClient]]:
        """Yield the paths and clients of this driver and of all below it that `client` was built with."""
        if isinstance(client, MissingDriver):
            return
        yield self.path, client
        for name, child in self.children.items():
            if name in client.children:
                yield from child.clients(client.children[name])


class BadDriverReport(Exception):
    """An exporter's report of its drivers is broken."""


class DriverBuilder:
    """
    Builds the driver clients of one exporter.

    Args:
        channel: The channel to the exporter.
        portal: The portal to the loop in which the clients work.
        stack: Closes the clients' streams when it is closed.
        policy: Which classes may be imported.

    Attributes:
        lock: Held by the thread that builds a client: one at a time.
    """

    def __init__(self, channel: Channel, portal: BlockingPortal, stack: ExitStack, policy: DriverPolicy) -> None:
        self.lock = threading.RLock()
        self._channel = channel
        self._portal = portal
        self._stack = stack
        self._policy = policy
        self._drivers: Drivers | None = None

    async def read_drivers(self, timeout: float) -> Drivers:
        """
        Ask the exporter for its drivers; must be awaited in the portal's loop.

        Args:
            timeout: Seconds for the answer.

        Raises:
            grpc.aio.AioRpcError: The exporter does not answer.
            BadDriverReport: What it reports is not a tree of drivers.
            DriverMissing, DriverNotAllowed, ImportError: The client of the root driver cannot be imported.
        """
        from google.protobuf import empty_pb2
        from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

        # gRPC's own deadline: a call that anyio's timeouts cancel ends as cancelled, not as late.
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(self._channel)
        response = await stub.GetReport(empty_pb2.Empty(), timeout=timeout)
        root = _tree(response.reports)
        client = await self._make(root)
        if isinstance(client, MissingDriver):
            raise client.error
        built = {} if root.is_composite else {path: below for path, below in root.clients(client) if path}
        self._drivers = Drivers(client, dict(root.places()), built)
        return self._drivers

    def build(self, node: _ReportedDriver) -> Driver:
        """
        Return the client of a driver, or a `MissingDriver` with the reason if it cannot be built.

        It is built in the thread that looks it up, so that the loop goes on reading consoles.
        """
        assert self._drivers is not None
        if self._drivers.is_closed:
            return MissingDriver(DeviceReleased(f"driver {node.path!r} was first used after the device was released"))
        try:
            client = self._made(node)
        except JumpstarterError:  # a signal handler may raise that the device is lost
            raise
        except Exception as exc:
            objections = (self._policy.objection(driver.path, driver.class_path) for driver in node.walk())
            if (objection := next(filter(None, objections), None)) is not None:
                return MissingDriver(objection)
            reason = f"driver {node.path!r}: creating {node.class_path} fails: {type(exc).__name__}: {exc}"
            return MissingDriver(DriverMissing(reason), is_temporary=True)
        if not isinstance(client, MissingDriver):
            self._drivers.add_built({node.path: client} if node.is_composite else dict(node.clients(client)))
        return client

    def _made(self, node: _ReportedDriver) -> Driver:
        try:
            return run_here(self._make(node))
        except RuntimeError as exc:
            if not isinstance(exc, LoopNeeded) and "event loop" not in str(exc):
                raise
        # Other releases of Jumpstarter wait here, or the client's constructor needs the loop. A task of the loop may be
        # waiting for our lock, so it is released meanwhile.
        self.lock.release()
        try:
            return self._portal.call(self._make, node)
        finally:
            self.lock.acquire()

    async def _make(self, node: _ReportedDriver) -> Driver:
        from jumpstarter.client.client import client_from_channel
        from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2

        nodes = [node] if node.is_composite else node.walk()
        response = jumpstarter_pb2.GetReportResponse(reports=[driver.report for driver in nodes])  # copies them
        response.reports[0].ClearField("parent_uuid")
        channel: Channel = _ChannelWithReport(self._channel, response)  # type: ignore[assignment]  # by __getattr__
        allow, unsafe = list(self._policy.allow), self._policy.unsafe
        with _without_warnings():
            new = await client_from_channel(channel, self._portal, self._stack, allow, unsafe)
        client = mark_missing(new, node.path, self._policy)
        if node.is_composite and not isinstance(client, MissingDriver):
            children = LazyChildren(self, node.children)
            client.children = children  # type: ignore[assignment]  # a dict to those who use it
            # Its own `close` would build all children, also when it is called by the garbage collector.
            client.close = children.close  # type: ignore[method-assign]
        return client


class LazyChildren(UserDict[str, "Driver | None"]):
    """
    The children of a composite driver by name; it replaces Jumpstarter's `dict`.

    Args:
        builder: Builds the clients.
        nodes: What the exporter reported of each child.
    """

    def __init__(self, builder: DriverBuilder, nodes: dict[str, _ReportedDriver]) -> None:
        super().__init__(dict.fromkeys(nodes))  # None in `data`: not built
        self._builder = builder
        self._nodes = nodes

    def __getitem__(self, name: str) -> Driver:
        __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
        if (client := self.data[name]) is not None:
            return client
        with self._builder.lock:
            if (client := self.data[name]) is None:
                built = self._builder.build(self._nodes[name])
                if (client := self.data[name]) is None:  # else another thread built it while ours was in the loop
                    client = built
                    if not isinstance(client, MissingDriver) or not client.is_temporary:
                        self.data[name] = client
            return client

    def __repr__(self) -> str:
        return f"<LazyChildren: {', '.join(self)}>"

    def close(self) -> None:
        """Close the clients that were built."""
        for client in self.data.values():
            if client is not None:
                client.close()


class _ChannelWithReport:
    """A channel to an exporter that answers the next GetReport itself, with `response`."""

    def __init__(self, channel: Channel, response: GetReportResponse) -> None:
        self._channel = channel
        self._responses = [response]

    def unary_unary(self, method: str, *args: object, **kwargs: object) -> Callable[..., Awaitable[object]]:
        """Return what calls the method, as a channel does."""
        new_call: Callable[..., Callable[..., Awaitable[object]]] = self._channel.unary_unary
        remote = new_call(method, *args, **kwargs)
        if not method.endswith("/GetReport"):
            return remote

        async def answer(response: GetReportResponse) -> GetReportResponse:
            return response

        def get_report(*args: object, **kwargs: object) -> Awaitable[object]:
            return answer(self._responses.pop()) if self._responses else remote(*args, **kwargs)

        return get_report

    def __getattr__(self, name: str) -> object:
        return getattr(self._channel, name)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Jumpstarter's warnings of missing drivers out of the log: `MissingDriver` raises them if they matter."""

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Driver client ")

    logger = logging.getLogger("jumpstarter.client.client")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _tree(reports: Sequence[DriverInstanceReport]) -> _ReportedDriver:
    """
    Return the root of the drivers in a report: the root comes first, and each driver after its parent.

    A driver may be at several places (`ref:`); its children are at the place that was reported last.

    Raises:
        BadDriverReport: There is no driver, or one without a parent before it.
    """
    if not reports:
        raise BadDriverReport("it reports no drivers")
    root = _ReportedDriver(reports[0])
    latest = {root.report.uuid: root}
    for report in reports[1:]:
        if report.parent_uuid not in latest:
            raise BadDriverReport(f"it reports driver {report.labels[_NAME_LABEL]!r} without its parent before it")
        parent, name = latest[report.parent_uuid], report.labels[_NAME_LABEL]
        node = _ReportedDriver(report, f"{parent.path}.{name}" if parent.path else name)
        parent.children[name] = latest[report.uuid] = node
    return root

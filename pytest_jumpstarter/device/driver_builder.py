"""
Driver clients that are built when they are first asked for.

To build one is to import its class and whatever its package imports, which for some is 0.2 s and 30 MiB; and a board
may have many that a test never touches. So what belongs to a composite driver waits until somebody asks for it. It is
built by Jumpstarter's own code then, from what the exporter reported when it was reached.

Source: jumpstarter.v1.ExporterService GetReport
"""

from __future__ import annotations

import logging
import threading
from collections import UserDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.device.drivers import (
    CLIENT_LABEL,
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
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport

_NAME_LABEL = "jumpstarter.dev/name"
_COMPOSITE = "jumpstarter_driver_composite.client.CompositeClient"
"""The class that only holds its children; others may want theirs from the start."""


@dataclass(slots=True)
class _ReportedDriver:
    """
    A driver in an exporter's report.

    Attributes:
        path: Its dotted path; empty for the root.
        children: The drivers that belong to it, by name.
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
        """Whether its client only holds those of its children, so that these may wait."""
        return self.class_path == _COMPOSITE

    def walk(self) -> Iterator[_ReportedDriver]:
        """Yield it and all below it, in the order of the exporter: parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def places(self) -> Iterator[tuple[str, DriverPlace]]:
        """Yield path and place of all below it, in that order."""
        for name, child in self.children.items():
            yield child.path, DriverPlace(self.path, name, child.report.uuid, child.class_path)
            yield from child.places()

    def clients(self, client: Any) -> Iterator[tuple[str, Any]]:
        """Yield path and client of it and of all below it, where `client` was built with these."""
        if isinstance(client, MissingDriver):
            return
        yield self.path, client
        for name, child in self.children.items():
            if name in client.children:
                yield from child.clients(client.children[name])


class BadDriverReport(Exception):
    """Say what is wrong with an exporter's report of its drivers."""


class DriverBuilder:
    """
    Builds the driver clients of an exporter.

    Args:
        channel: Goes to the exporter.
        portal: The loop in which they do what they do.
        stack: Closes their streams.
        policy: Which classes may be imported.

    Attributes:
        lock: Lets one thread at a time build a client.
    """

    def __init__(self, channel: Channel, portal: BlockingPortal, stack: ExitStack, policy: DriverPolicy) -> None:
        self.lock = threading.RLock()
        self._channel = channel
        self._portal = portal
        self._stack = stack
        self._policy = policy
        self._drivers: Drivers | None = None

    async def read_drivers(self) -> Drivers:
        """
        Ask the exporter what drivers it has; to be awaited in the portal's loop.

        Raises:
            grpc.aio.AioRpcError: It does not answer.
            ImportError: The root's client cannot be imported.
            BadDriverReport: What it reports is no tree of drivers.
        """
        from google.protobuf import empty_pb2
        from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2_grpc

        response = await jumpstarter_pb2_grpc.ExporterServiceStub(self._channel).GetReport(empty_pb2.Empty())
        root = _tree(response.reports)
        client = await self._make(root)
        built = {} if root.is_composite else {path: below for path, below in root.clients(client) if path}
        self._drivers = Drivers(client, dict(root.places()), built)
        return self._drivers

    def build(self, node: _ReportedDriver) -> Any:
        """
        Return the client of a driver, or what says on first use why it is not there.

        It is built in the thread that wants it, and takes nothing from the loop, where consoles are read.
        """
        assert self._drivers is not None
        if self._drivers.is_closed:
            return MissingDriver(DeviceReleased(f"driver {node.path!r} was not asked for while the device was ours"))
        try:
            client = self._made(node)
        except JumpstarterError:  # of a lost device, which a signal may bring
            raise
        except Exception as exc:
            objections = (self._policy.objection(each.path, each.class_path) for each in node.walk())
            if (objection := next(filter(None, objections), None)) is not None:
                return MissingDriver(objection)
            reason = f"{node.class_path} for driver {node.path!r} fails: {type(exc).__name__}: {exc}"
            return MissingDriver(DriverMissing(reason), is_passing=True)
        if not isinstance(client, MissingDriver):
            self._drivers.add_built({node.path: client} if node.is_composite else dict(node.clients(client)))
        return client

    def _made(self, node: _ReportedDriver) -> Any:
        try:
            return run_here(self._make(node))
        except RuntimeError as exc:
            if not isinstance(exc, LoopNeeded) and "event loop" not in str(exc):
                raise
        # Another Jumpstarter's way waits, or the client's constructor wants the loop, where somebody may wait for us.
        self.lock.release()
        try:
            return self._portal.call(self._make, node)
        finally:
            self.lock.acquire()

    async def _make(self, node: _ReportedDriver) -> Any:
        from jumpstarter.client.client import client_from_channel
        from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2

        nodes = [node] if node.is_composite else node.walk()
        response = jumpstarter_pb2.GetReportResponse(reports=[each.report for each in nodes])  # copies them
        response.reports[0].ClearField("parent_uuid")
        channel: Any = _ChannelWithReport(self._channel, response)
        allow, unsafe = list(self._policy.allow), self._policy.unsafe
        with _without_warnings():
            client: Any = await client_from_channel(channel, self._portal, self._stack, allow, unsafe)
        client = mark_missing(client, node.path, self._policy)
        if node.is_composite and not isinstance(client, MissingDriver):
            client.children = children = LazyChildren(self, node.children)
            client.close = children.close  # its own would have all of them built, also when it is garbage
        return client


class LazyChildren(UserDict[str, Any]):
    """
    The children of a composite driver by name, in the place of Jumpstarter's `dict`.

    Args:
        builder: Builds them.
        nodes: What the exporter reported of each.
    """

    def __init__(self, builder: DriverBuilder, nodes: dict[str, _ReportedDriver]) -> None:
        super().__init__(dict.fromkeys(nodes))  # `data`: None for what is not built
        self._builder = builder
        self._nodes = nodes

    def __getitem__(self, name: str) -> Any:
        __tracebackhide__ = True  # of a driver that is not there, pytest shows the test's line
        if (client := self.data[name]) is not None:
            return client
        with self._builder.lock:
            if (client := self.data[name]) is None:
                built = self._builder.build(self._nodes[name])
                if (client := self.data[name]) is None:  # nobody had one built while ours was in the loop
                    client = built
                    if not isinstance(client, MissingDriver) or not client.is_passing:
                        self.data[name] = client
            return client

    def __repr__(self) -> str:
        return f"<LazyChildren: {', '.join(self)}>"

    def close(self) -> None:
        """Close those that were built."""
        for client in self.data.values():
            if client is not None:
                client.close()


class _ChannelWithReport:
    """A channel to an exporter on which the next request for its report has its answer already."""

    def __init__(self, channel: Channel, response: Any) -> None:
        self._channel = channel
        self._responses = [response]

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the method, as a channel does."""
        asked = self._channel.unary_unary(method, *args, **kwargs)
        if not method.endswith("/GetReport"):
            return asked

        async def answer(response: Any) -> Any:
            return response

        def get_report(*args: Any, **kwargs: Any) -> Any:
            return answer(self._responses.pop()) if self._responses else asked(*args, **kwargs)

        return get_report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep Jumpstarter's warnings of missing drivers out of the log: `MissingDriver` tells, if it matters, and how."""

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
    Return the root of what an exporter reports: it comes first, and each driver after the one that it belongs to.

    A driver may stand at several places (`ref:`); those that belong to it belong to the place reported last.

    Raises:
        BadDriverReport: It reports none, or one that belongs to none.
    """
    if not reports:
        raise BadDriverReport("it reports no drivers")
    root = _ReportedDriver(reports[0])
    latest = {root.report.uuid: root}
    for report in reports[1:]:
        if report.parent_uuid not in latest:
            raise BadDriverReport(f"it reports a driver {report.labels[_NAME_LABEL]!r} that belongs to none before it")
        parent, name = latest[report.parent_uuid], report.labels[_NAME_LABEL]
        node = _ReportedDriver(report, f"{parent.path}.{name}" if parent.path else name)
        parent.children[name] = latest[report.uuid] = node
    return root

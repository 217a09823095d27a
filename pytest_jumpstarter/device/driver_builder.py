"""
Driver clients that are built when they are first looked up.

To build a client, its class and all that its package imports must be imported, which for some takes 0.2 s and 30 MiB;
and a board may have many drivers that a test never uses. So the children of a composite driver are built when they are
first looked up (lazy_composite.py), from what the exporter reported when it was connected.

A client is built where Jumpstarter builds it: by Jumpstarter's own code, in the event loop. Only its module is imported
in the thread that looks it up, because meanwhile the loop reads consoles.

Source: jumpstarter.v1.ExporterService GetReport
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from pytest_jumpstarter.device.drivers import (
    CLIENT_LABEL,
    DriverPlace,
    DriverPolicy,
    Drivers,
    is_missing,
)
from pytest_jumpstarter.device.lazy_adapters import lazy_adapters
from pytest_jumpstarter.device.portal import run_here
from pytest_jumpstarter.errors import DeviceReleased, DriverMissing, JumpstarterError
from pytest_jumpstarter.host.real_files import real_files
from pytest_jumpstarter.jumpstarter_private import LOGGER_OF_CLIENTS, WORDS_OF_MISSING_DRIVER
from pytest_jumpstarter.masking import first_characters

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from grpc.aio import Channel
    from jumpstarter.client import DriverClient
    from jumpstarter_protocol import jumpstarter_pb2

    DriverInstanceReport: TypeAlias = jumpstarter_pb2.DriverInstanceReport
    GetReportResponse: TypeAlias = jumpstarter_pb2.GetReportResponse

_NAME_LABEL = "jumpstarter.dev/name"
_DEEPEST = 100
_LONGEST_MOTD = 2000
_COMPOSITE = "jumpstarter_driver_composite.client.CompositeClient"
"""The class that only holds its children; other classes may use their children when they are built."""


@dataclass(slots=True)
class ReportedDriver:
    """
    One driver at one place in an exporter's report.

    Attributes:
        path: Its dotted path; empty for the root.
        depth: How many drivers are above it.
        children: Its child drivers by name.
        client: Its client; None before it is built.
    """

    report: DriverInstanceReport
    path: str = ""
    depth: int = 0
    children: dict[str, ReportedDriver] = field(default_factory=dict)
    client: DriverClient | None = None

    @property
    def class_path(self) -> str:
        """The class of its client."""
        return self.report.labels.get(CLIENT_LABEL, "")

    @property
    def is_composite(self) -> bool:
        """Whether its client only holds its children, so that these can be built later."""
        return self.class_path == _COMPOSITE

    def walk(self) -> Iterator[ReportedDriver]:
        """Yield this driver and all below it in the order of the report: parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def places(self) -> Iterator[tuple[str, DriverPlace]]:
        """Yield the paths and places of all drivers below it, in the same order."""
        for name, child in self.children.items():
            yield child.path, DriverPlace(self.path, name, child.report.uuid, child.class_path)
            yield from child.places()

    def built_together(self) -> Iterator[ReportedDriver]:
        """Yield the drivers whose clients are built together with that of this one, which is the first."""
        yield from [self] if self.is_composite else self.walk()

    def clients(self, client: DriverClient) -> Iterator[tuple[str, DriverClient]]:
        """Yield the paths and clients of this driver and of all below it that were built together with it."""
        from jumpstarter.client import DriverClient

        from pytest_jumpstarter.jumpstarter_private import StubDriverClient

        yield self.path, client
        if not self.is_composite and not isinstance(client, StubDriverClient):
            for name, child in self.children.items():
                if isinstance(below := client.children.get(name), DriverClient):  # a client may replace its children
                    yield from child.clients(below)


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
    """

    def __init__(self, channel: Channel, portal: BlockingPortal, stack: ExitStack, policy: DriverPolicy) -> None:
        self._channel = channel
        self._portal = portal
        self._stack = stack
        self._policy = policy
        self._drivers: Drivers | None = None
        self._loop_thread = 0

    async def read_drivers(self, response: GetReportResponse) -> Drivers:
        """
        Return the drivers of the exporter's report; must be awaited in the portal's loop.

        Raises:
            BadDriverReport: What it reports is not a tree of drivers.
            DriverMissing, DriverNotAllowed, ImportError: The client of the root driver cannot be imported.
        """
        self._loop_thread = threading.get_ident()
        root = _tree(response.reports)
        try:
            with lazy_adapters():
                client = await self._make(root)
        except (JumpstarterError, ImportError, OSError):
            raise
        except Exception as exc:
            what = f"creating {root.class_path or 'a class without a name'} fails: {type(exc).__name__}: {exc}"
            raise BadDriverReport(f"of its root driver: {what}") from exc
        if is_missing(client):
            raise client.error
        self._drivers = Drivers(client, dict(root.places()), {})
        self._drivers.motd = first_characters(str(getattr(response, "motd", "")).strip(), _LONGEST_MOTD)
        self._drivers.add_built({path: below for path, below in _usable(root, client) if path})
        return self._drivers

    def build(self, node: ReportedDriver) -> DriverClient:
        """
        Return the client of a driver; if it cannot be built, a `MissingDriver` with the reason.

        The first call builds it, in the loop, so that constructors find what they find with Jumpstarter.
        """
        from pytest_jumpstarter.device.missing_driver import MissingDriver

        assert self._drivers is not None
        if node.client is not None:
            return node.client
        if self._drivers.is_closed:
            reason = f"driver {node.path!r} was first used after the device was released"
            return MissingDriver(DeviceReleased(reason), uuid=node.report.uuid, labels=node.report.labels)
        with real_files(), lazy_adapters():
            return self._built_or_missing(node)

    def _built_or_missing(self, node: ReportedDriver) -> DriverClient:
        from pytest_jumpstarter.device.missing_driver import MissingDriver

        uuid, labels = node.report.uuid, node.report.labels
        objections = [self._policy.objection(each.path, each.class_path) for each in node.built_together()]  # imports
        try:
            return self._built_in_loop(node)
        except JumpstarterError:  # a signal handler may raise that the device is lost
            raise
        except Exception as exc:
            if (objection := next(filter(None, objections), None)) is not None:
                return MissingDriver(objection, uuid=uuid, labels=labels)
            reason = f"driver {node.path!r}: creating {node.class_path} fails: {type(exc).__name__}: {exc}"
            return MissingDriver(DriverMissing(reason), uuid=uuid, labels=labels, is_temporary=True)

    def _built_in_loop(self, node: ReportedDriver) -> DriverClient:
        if threading.get_ident() == self._loop_thread:
            return run_here(self._build_once(node))
        return self._portal.call(self._build_once, node)

    async def _build_once(self, node: ReportedDriver) -> DriverClient:
        """Build a client, unless another thread had it built just before."""
        if node.client is None:
            client = await self._make(node)
            if node.client is None:
                assert self._drivers is not None
                self._drivers.add_built(dict(_usable(node, client)))
                node.client = client
        return node.client

    async def _make(self, node: ReportedDriver) -> DriverClient:
        from jumpstarter_protocol import jumpstarter_pb2

        from pytest_jumpstarter.jumpstarter_private import client_from_channel

        reports = [driver.report for driver in node.built_together()]
        response = jumpstarter_pb2.GetReportResponse(reports=reports)  # copies them
        response.reports[0].ClearField("parent_uuid")
        channel: Channel = _ChannelWithReport(self._channel, response)  # type: ignore[assignment]  # by __getattr__
        allow, unsafe = list(self._policy.allow), self._policy.unsafe
        with _without_warnings():
            client: DriverClient = await client_from_channel(channel, self._portal, self._stack, allow, unsafe)
        self._mark_missing(node, client)
        if node.is_composite and not is_missing(client):
            from pytest_jumpstarter.device.lazy_composite import LazyChildren, LazyComposite

            LazyComposite.turn(client, LazyChildren(node.children, self.build))
        return client

    def _mark_missing(self, node: ReportedDriver, client: DriverClient) -> None:
        """Give the reason to each stub that Jumpstarter made for a class that it could not, or may not, import."""
        from pytest_jumpstarter.device.missing_driver import MissingDriver
        from pytest_jumpstarter.jumpstarter_private import StubDriverClient

        for path, each in node.clients(client):
            if isinstance(each, StubDriverClient):
                class_path = each.labels[CLIENT_LABEL]
                objection = self._policy.objection(path, class_path)
                MissingDriver.turn(each, objection or DriverMissing(f"there was no {class_path} for driver {path!r}"))


def _usable(node: ReportedDriver, client: DriverClient) -> Iterator[tuple[str, DriverClient]]:
    """Yield the paths and clients of a driver and of those below it, without those that are missing."""
    return ((path, each) for path, each in node.clients(client) if not is_missing(each))


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
        return not str(record.msg).startswith(WORDS_OF_MISSING_DRIVER)

    logger = logging.getLogger(LOGGER_OF_CLIENTS)
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _tree(reports: Sequence[DriverInstanceReport]) -> ReportedDriver:
    """
    Return the root of the drivers in a report: the root comes first, and each driver after its parent.

    A driver may be at several places (`ref:`); its children are at the place that was reported last.

    Raises:
        BadDriverReport: There is no driver, or one without a name, a UUID, or a parent before it; or it is too deep.
    """
    if not reports:
        raise BadDriverReport("it reports no drivers")
    root = ReportedDriver(reports[0])
    latest = {root.report.uuid: root}
    for report in reports:
        _check_uuid(report)
    for report in reports[1:]:
        name = report.labels.get(_NAME_LABEL, "")
        if not name:
            raise BadDriverReport(f"it reports a driver without a name (uuid {report.uuid})")
        if report.parent_uuid not in latest:
            raise BadDriverReport(f"it reports driver {name!r} without its parent before it")
        parent = latest[report.parent_uuid]
        if parent.depth >= _DEEPEST:
            raise BadDriverReport(f"it reports drivers that are nested more than {_DEEPEST} deep")
        node = ReportedDriver(report, f"{parent.path}.{name}" if parent.path else name, parent.depth + 1)
        parent.children[name] = latest[report.uuid] = node
    return root


def _check_uuid(report: DriverInstanceReport) -> None:
    try:
        UUID(report.uuid)
    except ValueError as exc:
        name = report.labels.get(_NAME_LABEL, "")
        raise BadDriverReport(f"it reports driver {name!r} with {report.uuid!r:.100}, which is no UUID") from exc

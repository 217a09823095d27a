"""
The connection to one exporter, and its driver clients, which Jumpstarter's own code builds.

It goes either through a tunnel (`open_tunnel`) or over a channel straight to the exporter (`open_channel`).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pytest_jumpstarter.client.v1.tls import UNTRUSTED
from pytest_jumpstarter.device.driver_builder import BadDriverReport, DriverBuilder
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_status import ExporterStatus, UnreadableAnswer, get_status, readable
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import (
    ConfigError,
    DeviceError,
    DeviceUnreachable,
    DriverMissing,
    ExporterOffline,
    JumpstarterError,
)
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    import grpc
    from jumpstarter_protocol import jumpstarter_pb2

    from pytest_jumpstarter.device.blocking_calls import DriverPortal
    from pytest_jumpstarter.device.channel_target import ChannelTarget
    from pytest_jumpstarter.device.tunnel import Tunnel

CONNECT_TIMEOUT = 30.0
"""Seconds for the exporter to report its drivers; gRPC's handshake gives up after about 20."""


class TlsAdvice(NamedTuple):
    """
    Recommendations for error messages about the TLS of an exporter.

    Attributes:
        plain_text: For an exporter that does not use TLS.
        authority: For a certificate that is not trusted.
    """

    plain_text: str
    authority: str


def warm_up() -> None:
    """Import what building driver clients needs, which takes 0.4 s or more, while waiting for a board."""
    import pytest_jumpstarter.device.blocking_calls
    import pytest_jumpstarter.device.tunnel  # noqa: F401

    with suppress(ImportError):  # nearly every exporter's root driver needs it; if one does, its absence is an error
        import jumpstarter_driver_composite.client  # noqa: F401


class ExporterConnection:
    """
    The connection to one exporter, from `open_…` to `close()`.

    Args:
        portal: Runs what needs an event loop.
        policy: Which driver clients may be imported.
        call_timeout: Seconds for one driver call; None for as long as it takes.

    Attributes:
        channel: The channel of the driver clients; None until the exporter was asked for its drivers.
        calls: The start of the call that a thread waits for, by thread: driver calls and `expect` of consoles.
    """

    def __init__(self, portal: Portal, policy: DriverPolicy, *, call_timeout: float | None = None) -> None:
        self.portal = portal.start()
        self._policy = policy
        self._call_timeout = call_timeout
        self._stack = ExitStack()
        self._clients = ExitStack()
        self._drivers: Drivers | None = None
        self._driver_portal: DriverPortal | None = None
        self._tunnel: Tunnel | None = None
        self._ping: Callable[[float], bool] | None = None
        self.calls: dict[int, float] = {}
        self.channel: grpc.aio.Channel | None = None

    @property
    def heard(self) -> float:
        """When something came from the exporter last, as far as known, by `time.monotonic()`."""
        answered = self._driver_portal.last_answer if self._driver_portal is not None else -math.inf
        return max(answered, self._tunnel.heard if self._tunnel is not None else -math.inf)

    @property
    def router_trouble(self) -> str:
        """Why the router on the way cannot be reached at present; empty if it can, or there is none."""
        return self._tunnel.router_trouble if self._tunnel is not None else ""

    def open_tunnel(self, tunnel: Tunnel, *, exporter: str) -> Drivers:
        """
        Connect through `tunnel` and return the driver clients.

        Args:
            tunnel: The tunnel; it is closed with this connection.
            exporter: The name of the exporter in error messages.

        Raises:
            DeviceUnreachable: The exporter does not answer.
            DriverMissing, DriverNotAllowed: The client of the root driver cannot be used, so nothing can.
        """
        self._tunnel = tunnel
        drivers = self._open(_over_tunnel(tunnel, self), exporter, advice=None)
        from pytest_jumpstarter.device.channel_target import ChannelTarget

        self._give_portal(drivers, ChannelTarget.of_socket(tunnel.path), lambda: tunnel.is_open)
        return drivers

    def open_channel(self, target: ChannelTarget, *, exporter: str, advice: TlsAdvice) -> Drivers:
        """
        Connect over a channel and return the driver clients.

        Args:
            target: Where the exporter is reached; the channels are closed with this connection.
            exporter: The name of the exporter in error messages.
            advice: What error messages recommend about TLS.

        Raises:
            ConfigError: The exporter refuses the passphrase, does not use TLS, or its certificate is not trusted.
            DeviceUnreachable, DriverMissing, DriverNotAllowed: As `open_tunnel`.
        """
        drivers = self._open(_over_channel(target, self), exporter, advice)
        self._give_portal(drivers, target, lambda: False)
        return drivers

    @property
    def is_ready(self) -> bool:
        """Whether the channel to the exporter is connected; nothing is sent."""
        import grpc

        async def state() -> grpc.ChannelConnectivity:
            assert self.channel is not None
            return self.channel.get_state()

        try:
            return self.channel is not None and self.portal.call(state) is grpc.ChannelConnectivity.READY
        except (RuntimeError, grpc.aio.UsageError):  # closed
            return False

    def status(self, timeout: float, *, exporter: str) -> ExporterStatus:
        """
        Ask the exporter for its status, over the open channel.

        Raises:
            DeviceUnreachable: It does not answer within `timeout` seconds.
        """
        import grpc

        assert self.channel is not None
        try:
            status: ExporterStatus = self.portal.call(get_status, self.channel, timeout)
        except grpc.aio.AioRpcError as exc:
            raise DeviceUnreachable(f"{exporter} does not tell its status: {exc.details()}") from exc
        except UnreadableAnswer as exc:
            raise DeviceUnreachable(f"{exporter} does not tell its status: {exc}") from exc
        return status

    def probe(self, timeout: float, *, exporter: str) -> DeviceError | None:
        """
        Check that the exporter still answers and was not restarted; reconnect if the connection broke.

        Args:
            timeout: Seconds for connecting and the answer.
            exporter: The name of the exporter in the error.

        Returns:
            ExporterOffline: The exporter was restarted since we connected.
            DeviceUnreachable: The exporter does not answer, or the router on the way to it.
            None: The exporter answers.
        """
        import grpc

        if self._drivers is None:
            return None
        began = real_time.monotonic()
        try:
            response = self._ask(self._drivers, timeout)
        except grpc.aio.AioRpcError as exc:
            if self.router_trouble:
                return DeviceUnreachable(f"{exporter} is out of reach: {self.router_trouble}")
            waited = real_time.monotonic() - began
            return DeviceUnreachable(f"{exporter} does not answer within {waited:.1f}s: {exc.details()}")
        except Exception as exc:
            return DeviceUnreachable(f"{exporter} cannot be checked: {type(exc).__name__}: {exc}")
        if str(self._drivers.root.uuid) not in {report.uuid for report in response.reports}:
            return ExporterOffline(f"{exporter} was restarted: its drivers are not those of this lease")
        return None

    def ping(self, timeout: float) -> bool:
        """Return whether the exporter answers within `timeout` seconds; through a tunnel by a separate connection."""
        from pytest_jumpstarter.device.blocking_channel import ping
        from pytest_jumpstarter.device.channel_target import ChannelTarget

        try:
            if self._ping is None and self._tunnel is not None:
                channel = ChannelTarget.of_socket(self._tunnel.path).apart().blocking_channel()
                self._clients.callback(channel.close)
                self._ping = partial(ping, channel)
            if self._ping is not None:
                return self._ping(timeout)
            return not isinstance(self.probe(timeout, exporter=""), DeviceUnreachable)
        except ValueError:  # it was closed meanwhile
            return True

    def break_off(self) -> None:
        """Close tunnel or channel, without waiting for it, so that every call over it ends with an error."""
        if self._tunnel is not None:
            self.portal.start_task_soon(self._tunnel.close)
        elif self.channel is not None:
            self.portal.start_task_soon(self.channel.close)
            if self._driver_portal is not None:
                self._driver_portal.close_channel()

    def _ask(self, drivers: Drivers, timeout: float) -> jumpstarter_pb2.GetReportResponse:
        """Ask the exporter for its drivers, over the connection of the driver clients."""
        from google.protobuf import empty_pb2

        async def ask() -> jumpstarter_pb2.GetReportResponse:
            report: jumpstarter_pb2.GetReportResponse
            report = await drivers.root.stub.GetReport(empty_pb2.Empty(), timeout=timeout, wait_for_ready=True)
            return readable(report)

        return self.portal.call(ask)

    async def read_drivers(self, channel: grpc.aio.Channel) -> Drivers:
        """Ask the exporter for its drivers; must be awaited in the portal's loop."""
        from google.protobuf import empty_pb2
        from jumpstarter_protocol import jumpstarter_pb2_grpc

        self.channel = channel
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        # gRPC's own deadline: a call that anyio's timeouts cancel ends as cancelled, not as late.
        response = await stub.GetReport(empty_pb2.Empty(), timeout=CONNECT_TIMEOUT)
        stack = self._clients.enter_context(ExitStack())  # closed after the clients, also those that are built later
        return await DriverBuilder(channel, self.portal, stack, self._policy).read_drivers(readable(response))

    def release_drivers(self) -> None:
        """Close the driver clients and their streams; the log can still be read, until `close`."""
        self._clients.close()

    def close(self) -> None:
        """Close every stream and channel; a second call does nothing."""
        with self._stack:
            self._clients.close()

    @property
    def last_failure(self) -> float:
        """When a driver call failed last, by `time.monotonic()`; minus infinity if none did."""
        return self._driver_portal.last_failure if self._driver_portal is not None else -math.inf

    def _give_portal(self, drivers: Drivers, target: ChannelTarget, is_open: Callable[[], bool]) -> None:
        """Give the driver clients a portal that records their calls, and makes plain ones over channels to `target`."""
        from pytest_jumpstarter.device.blocking_calls import DriverPortal, give_portal

        self._driver_portal = portal = DriverPortal(
            self.portal,
            target.blocking_channel,
            is_open,
            calls=self.calls,
            timeout=self._call_timeout,
        )
        self._clients.callback(portal.close_channel)
        give_portal(drivers.root, portal)
        drivers.watch_built(lambda _, driver: give_portal(driver, portal))

    def _open(self, manager: AbstractAsyncContextManager[Drivers], exporter: str, advice: TlsAdvice | None) -> Drivers:
        try:
            drivers: Drivers = self._stack.enter_context(self.portal.wrap_async_context_manager(manager))
            self._clients.callback(drivers.close)
        except BaseException as exc:
            trouble = self.router_trouble
            self.close()
            if trouble and not isinstance(exc, JumpstarterError) and isinstance(exc, Exception):
                raise DeviceUnreachable(f"{exporter} is out of reach: {trouble}") from exc
            _explain(exc, exporter, advice)
            raise
        self._drivers = drivers
        return drivers


def _explain(exc: BaseException, exporter: str, advice: TlsAdvice | None) -> None:
    """Raise the error of this package that `exc` means; return if there is none, or if it already is one."""
    import grpc

    if isinstance(exc, JumpstarterError):
        return  # checked first, since some of ours are an OSError too
    if isinstance(exc, grpc.aio.AioRpcError):
        exc.__traceback__ = None  # its frames refer to the call, and gRPC goes on to connect as long as that exists
    if isinstance(exc, grpc.aio.AioRpcError) and exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise DeviceUnreachable(f"{exporter} does not answer within {CONNECT_TIMEOUT:.0f}s") from exc
    if isinstance(exc, BadDriverReport | UnreadableAnswer):
        raise DeviceUnreachable(f"{exporter} cannot be used: {exc}") from exc
    if isinstance(exc, ImportError):
        raise DriverMissing(f"a driver client of {exporter} cannot be imported: {exc}") from exc
    if isinstance(exc, (grpc.aio.AioRpcError, OSError)):
        details = str(exc.details() if isinstance(exc, grpc.aio.AioRpcError) else exc)
        mistake = _mistake(exc, details, exporter, advice) if advice is not None else None
        raise mistake or DeviceUnreachable(f"{exporter} does not answer: {details}") from exc


def _mistake(error: object, details: str, exporter: str, advice: TlsAdvice) -> ConfigError | None:
    """Return the configuration error that `error` means; None if trying again may help."""
    import grpc

    if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(f"{exporter} refuses us: {details}; JMP_GRPC_PASSPHRASE must be its passphrase")
    if "WRONG_VERSION_NUMBER" in details:  # the TLS error for an answer in plain text
        return ConfigError(f"{exporter} speaks plain text, not TLS; {advice.plain_text}")
    if UNTRUSTED in details:
        return ConfigError(f"the TLS certificate of {exporter} is not trusted; {advice.authority}")
    if "Hostname Verification Check failed" in details or "is not in peer certificate" in details:
        return ConfigError(f"the TLS certificate of {exporter} is for another host; use the one in the certificate")
    if "security handshaker" in details:
        return ConfigError(f"the CA certificates for {exporter} are broken: they must be PEM")
    return None


@asynccontextmanager
async def _over_tunnel(tunnel: Tunnel, connection: ExporterConnection) -> AsyncIterator[Drivers]:
    from pytest_jumpstarter.device.channel_target import ChannelTarget

    try:
        target = ChannelTarget.of_socket(await tunnel.open())
        async with _over_channel(target, connection) as drivers:
            yield drivers
    finally:
        await tunnel.close()


@asynccontextmanager
async def _over_channel(target: ChannelTarget, connection: ExporterConnection) -> AsyncIterator[Drivers]:
    async with target.aio_channel() as opened:
        yield await connection.read_drivers(opened)

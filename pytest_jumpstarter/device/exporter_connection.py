"""
The connection to one exporter, and its driver clients, which Jumpstarter's own code builds.

It goes either through a tunnel (`open_tunnel`) or over a channel straight to the exporter (`open_channel`).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from pytest_jumpstarter.device.driver_builder import BadDriverReport, DriverBuilder
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import (
    ConfigError,
    DeviceError,
    DeviceUnreachable,
    DriverMissing,
    ExporterOffline,
    JumpstarterError,
)

if TYPE_CHECKING:
    import grpc
    from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import GetReportResponse

    from pytest_jumpstarter.device.blocking_calls import DriverPortal
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

    Attributes:
        channel: The channel of the driver clients; None until the exporter was asked for its drivers.
    """

    def __init__(self, portal: Portal, policy: DriverPolicy) -> None:
        self.portal = portal.start()
        self._policy = policy
        self._stack = ExitStack()
        self._drivers: Drivers | None = None
        self._driver_portal: DriverPortal | None = None
        self.channel: grpc.aio.Channel | None = None

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
        drivers = self._open(_over_tunnel(tunnel, self), exporter, advice=None)
        self._give_portal(drivers, tunnel)
        return drivers

    def open_channel(self, channel: Callable[[], grpc.aio.Channel], *, exporter: str, advice: TlsAdvice) -> Drivers:
        """
        Connect over a channel and return the driver clients.

        Args:
            channel: Called in the portal's loop to make the channel, which is closed with this connection.
            exporter: The name of the exporter in error messages.
            advice: What error messages recommend about TLS.

        Raises:
            ConfigError: The exporter refuses the passphrase, does not use TLS, or its certificate is not trusted.
            DeviceUnreachable, DriverMissing, DriverNotAllowed: As `open_tunnel`.
        """
        drivers = self._open(_over_channel(channel, self), exporter, advice)
        self._give_portal(drivers)
        return drivers

    @property
    def is_ready(self) -> bool:
        """Whether the channel to the exporter stands; asks nobody."""
        import grpc

        async def state() -> grpc.ChannelConnectivity:
            assert self.channel is not None
            return self.channel.get_state()

        try:
            return self.channel is not None and self.portal.call(state) is grpc.ChannelConnectivity.READY
        except (RuntimeError, grpc.aio.UsageError):  # closed
            return False

    def probe(self, timeout: float, *, exporter: str) -> DeviceError | None:
        """
        Check that the exporter still answers and was not restarted; reconnect if the connection broke.

        Args:
            timeout: Seconds for connecting and the answer.
            exporter: The name of the exporter in the error.

        Returns:
            ExporterOffline: The exporter was restarted since we connected.
            DeviceUnreachable: The exporter does not answer.
            None: All is well.
        """
        import grpc
        from google.protobuf import empty_pb2

        if self._drivers is None:
            return None
        client = self._drivers.root

        async def ask() -> GetReportResponse:
            report: GetReportResponse
            report = await client.stub.GetReport(empty_pb2.Empty(), timeout=timeout, wait_for_ready=True)
            return report

        began = time.monotonic()
        try:
            response = self.portal.call(ask)
        except grpc.aio.AioRpcError as exc:
            waited = time.monotonic() - began
            return DeviceUnreachable(f"{exporter} does not answer within {waited:.1f}s: {exc.details()}")
        except Exception as exc:
            return DeviceUnreachable(f"{exporter} cannot be checked: {type(exc).__name__}: {exc}")
        if str(client.uuid) not in {report.uuid for report in response.reports}:
            return ExporterOffline(f"{exporter} was restarted: its drivers are not those of this lease")
        return None

    async def read_drivers(self, channel: grpc.aio.Channel) -> Drivers:
        """Ask the exporter for its drivers; must be awaited in the portal's loop."""
        self.channel = channel
        stack = self._stack.enter_context(ExitStack())  # closed after the clients, even those that are built later
        return await DriverBuilder(channel, self.portal, stack, self._policy).read_drivers()

    def close(self) -> None:
        """Close every stream and channel; a second call does nothing."""
        self._stack.close()

    @property
    def last_failure(self) -> float:
        """When a driver call failed last, by `time.monotonic()`; minus infinity if none did."""
        return self._driver_portal.last_failure if self._driver_portal is not None else -math.inf

    def _give_portal(self, drivers: Drivers, tunnel: Tunnel | None = None) -> None:
        """Give the driver clients a portal that watches their calls, and makes plain ones through `tunnel`."""
        import grpc

        from pytest_jumpstarter.device.blocking_calls import DriverPortal, give_portal

        channel = None
        if tunnel is not None:
            target = socket_target(tunnel.path)
            channel = self._stack.enter_context(grpc.secure_channel(*target, options=_INNER_OPTIONS))
        self._driver_portal = portal = DriverPortal(self.portal, channel)
        give_portal(drivers.root, portal)
        drivers.watch_built(lambda _, driver: give_portal(driver, portal))

    def _open(self, manager: AbstractAsyncContextManager[Drivers], exporter: str, advice: TlsAdvice | None) -> Drivers:
        try:
            drivers: Drivers = self._stack.enter_context(self.portal.wrap_async_context_manager(manager))
            self._stack.callback(drivers.close)
        except BaseException as exc:
            self.close()
            _explain(exc, exporter, advice)
            raise
        self._drivers = drivers
        return drivers


def _explain(exc: BaseException, exporter: str, advice: TlsAdvice | None) -> None:
    """Raise the error of this package that `exc` means; return if it already is one, or means none."""
    import grpc

    if isinstance(exc, JumpstarterError):
        return  # checked first, since some of ours are an OSError too
    if isinstance(exc, TimeoutError):
        raise DeviceUnreachable(f"{exporter} does not answer within {CONNECT_TIMEOUT:.0f}s") from exc
    if isinstance(exc, BadDriverReport):
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
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return ConfigError(f"the TLS certificate of {exporter} is not trusted; {advice.authority}")
    if "Hostname Verification Check failed" in details or "is not in peer certificate" in details:
        return ConfigError(f"the TLS certificate of {exporter} is for another host; use the one in the certificate")
    if "security handshaker" in details:
        return ConfigError(f"the CA certificates for {exporter} are broken: they must be PEM")
    return None


@asynccontextmanager
async def _over_tunnel(tunnel: Tunnel, connection: ExporterConnection) -> AsyncIterator[Drivers]:
    import grpc

    try:
        path = await tunnel.open()

        def channel() -> grpc.aio.Channel:
            return grpc.aio.secure_channel(*socket_target(path), options=_INNER_OPTIONS)

        async with _over_channel(channel, connection) as drivers:
            yield drivers
    finally:
        await tunnel.close()


def socket_target(path: str) -> tuple[str, grpc.ChannelCredentials]:
    """Return target and credentials of a channel to the unix socket at `path`."""
    import grpc

    return f"unix:{path}", grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)


@asynccontextmanager
async def _over_channel(
    channel: Callable[[], grpc.aio.Channel], connection: ExporterConnection
) -> AsyncIterator[Drivers]:
    from anyio import fail_after

    async with channel() as opened:
        with fail_after(CONNECT_TIMEOUT):
            drivers = await connection.read_drivers(opened)
        yield drivers


# The next call dials a broken tunnel again, so a long wait before reconnecting would not help.
_INNER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]

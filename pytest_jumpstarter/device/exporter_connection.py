"""
From a socket to a tree of driver clients, built with Jumpstarter's own code.

Two ways to the exporter: through a tunnel of our own, or over a channel straight to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_jumpstarter.device.driver_builder import BadDriverReport, DriverBuilder
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers, MissingDriver
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

    from pytest_jumpstarter.device.tunnel import Tunnel

CONNECT_TIMEOUT = 30.0
"""Seconds for the exporter to describe itself; gRPC's own handshake gives up after about 20."""


class TlsAdvice(NamedTuple):
    """
    What to do where an exporter's TLS is not what was expected.

    Attributes:
        plain_text: It speaks none.
        authority: Its certificate is not trusted.
    """

    plain_text: str
    authority: str


def warm_up() -> None:
    """Import what building driver clients needs (0.4 s and more), so that it is done when the board is there."""
    import pytest_jumpstarter.device.blocking_calls
    import pytest_jumpstarter.device.tunnel  # noqa: F401

    with suppress(ImportError):  # the root of nearly every exporter; who lacks it is told when a board needs it
        import jumpstarter_driver_composite.client  # noqa: F401


class ExporterConnection:
    """
    The way to a device's driver clients, from `open_…` to `close()`.

    Attributes:
        channel: What driver clients use, once the exporter was asked what drivers it has.
    """

    def __init__(self, portal: Portal, policy: DriverPolicy) -> None:
        self.portal = portal.start()
        self._policy = policy
        self._stack = ExitStack()
        self._drivers: Drivers | None = None
        self.channel: grpc.aio.Channel | None = None

    def open_tunnel(self, tunnel: Tunnel, *, exporter: str) -> Drivers:
        """
        Return the driver clients over `tunnel`.

        Raises:
            DeviceUnreachable: The exporter named `exporter` does not answer.
            DriverMissing, DriverNotAllowed: Nothing of the device can be used.
        """
        drivers = self._open(_over_tunnel(tunnel, self), exporter, advice=None)
        self._use_blocking_calls(drivers, tunnel)
        return drivers

    def open_channel(self, channel: Callable[[], grpc.aio.Channel], *, exporter: str, advice: TlsAdvice) -> Drivers:
        """
        Return the driver clients over a channel, which `channel` makes in the portal's loop.

        Args:
            channel: Makes the channel; it is closed with this connection.
            exporter: Words for the exporter in error messages.
            advice: What these say of TLS.

        Raises:
            ConfigError: The exporter does not take the passphrase, does not speak TLS, or has no certificate for us.
            DeviceUnreachable, DriverMissing, DriverNotAllowed: As `open_tunnel`.
        """
        return self._open(_over_channel(channel, self), exporter, advice)

    def probe(self, timeout: float, *, exporter: str) -> DeviceError | None:
        """
        Ask the exporter to describe itself again, over a new connection if the old one broke.

        Args:
            timeout: Seconds in which it must have been reached and have answered.
            exporter: Words for the exporter in the answer.

        Returns:
            ExporterOffline: It is another process than the one we were connected to.
            DeviceUnreachable: It does not answer.
            None: It does.
        """
        import grpc
        from google.protobuf import empty_pb2

        if self._drivers is None:
            return None
        client = self._drivers.root

        async def ask() -> Any:
            return await client.stub.GetReport(empty_pb2.Empty(), timeout=timeout, wait_for_ready=True)

        try:
            response = self.portal.call(ask)
        except grpc.aio.AioRpcError as exc:
            return DeviceUnreachable(f"{exporter} does not answer within {timeout:.0f}s: {exc.details()}")
        except Exception as exc:
            return DeviceUnreachable(f"{exporter} cannot be asked: {type(exc).__name__}: {exc}")
        if str(client.uuid) not in {report.uuid for report in response.reports}:
            return ExporterOffline(f"{exporter} restarted: its drivers are not those of this lease")
        return None

    async def read_drivers(self, channel: grpc.aio.Channel) -> Drivers:
        """Ask the exporter what drivers it has; in the portal's loop."""
        self.channel = channel
        stack = self._stack.enter_context(ExitStack())  # left after the clients were closed, whenever they were built
        return await DriverBuilder(channel, self.portal, stack, self._policy).read_drivers()

    def close(self) -> None:
        """Close every stream and channel; a second call does nothing."""
        self._stack.close()

    def _use_blocking_calls(self, drivers: Drivers, tunnel: Tunnel) -> None:
        import grpc

        from pytest_jumpstarter.device.blocking_calls import BlockingCallPortal, use_blocking_calls

        channel = self._stack.enter_context(grpc.secure_channel(*socket_target(tunnel.path), options=_INNER_OPTIONS))
        portal = BlockingCallPortal(self.portal, channel)
        use_blocking_calls(drivers.root, portal)
        drivers.watch_built(lambda _, driver: use_blocking_calls(driver, portal))

    def _open(self, manager: AbstractAsyncContextManager[Drivers], exporter: str, advice: TlsAdvice | None) -> Drivers:
        try:
            drivers: Drivers = self._stack.enter_context(self.portal.wrap_async_context_manager(manager))
            self._stack.callback(drivers.close)
            if isinstance(drivers.root, MissingDriver):
                raise drivers.root.error
        except BaseException as exc:
            self.close()
            _explain(exc, exporter, advice)
            raise
        self._drivers = drivers
        return drivers


def _explain(exc: BaseException, exporter: str, advice: TlsAdvice | None) -> None:
    """Raise the error of ours that `exc` amounts to; return where it is one already, or none."""
    import grpc

    if isinstance(exc, JumpstarterError):
        return  # some of ours are ConnectionErrors too
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
    """Return the error that trying again would not mend, if it is one."""
    import grpc

    if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(f"{exporter} refuses us: {details}; JMP_GRPC_PASSPHRASE must hold its own")
    if "WRONG_VERSION_NUMBER" in details:  # what TLS makes of an answer in plain text
        return ConfigError(f"{exporter} speaks plain text, not TLS; {advice.plain_text}")
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return ConfigError(f"the TLS certificate of {exporter} is not trusted; {advice.authority}")
    if "Hostname Verification Check failed" in details or "is not in peer certificate" in details:
        return ConfigError(f"the TLS certificate of {exporter} is for another host; use the name that it was made for")
    if "security handshaker" in details:
        return ConfigError(f"the certificates to check {exporter} by are broken: they must be PEM")
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
    """Return what a channel to the unix socket at `path` is made with."""
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


# A broken tunnel is dialled again by the next call, so waiting long before that helps nobody.
_INNER_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]

"""`GivenSource`: a device that is ours without a lease, since somebody else sees to that."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.tls import Tls, channel_options
from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import ExporterConnection
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.leasing.events import Events, only_in_this_process, put_away
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import asked_for, check_identity, is_unknown
from pytest_jumpstarter.leasing.request import Wanted

if TYPE_CHECKING:
    import grpc

    from pytest_jumpstarter.client.v1 import Lease


class GivenSource(ABC):
    """
    One exporter that is there for us: nothing is leased, released or ended here.

    Attributes:
        where: Words for who has the exporter.
        place: Words for the place that it is reached at.
        nameless: The exporter's name where nobody tells it.
        reads_log: Whether what the exporter says is ours to read.
    """

    leases: list[Lease] = []  # noqa: RUF012 - there is none, ever
    where: str
    place: str
    nameless: str = ""
    reads_log: bool = True

    def __init__(self, environ: Mapping[str, str], *, events: Events, healths: dict[str, Health]) -> None:
        self._environ = environ
        self._events = events
        self._portal = Portal()
        self._has_warned = False
        self._healths = healths

    @contextmanager
    def devices(self, wanted: Sequence[Wanted]) -> Iterator[dict[str, Device]]:
        """Yield the device for each role; see `device`."""
        with ExitStack() as stack:
            yield {each.role: stack.enter_context(self.device(each)) for each in wanted}

    @contextmanager
    def device(self, wanted: Wanted) -> Iterator[Device]:
        """
        Connect to the exporter and yield its device.

        Raises:
            DeviceMismatch: The exporter is not the one that `wanted` asks for.
            DeviceUnreachable: It does not answer.
            ConfigError: It does not take the passphrase in JMP_GRPC_PASSPHRASE, or TLS is not as it must be.

        Warns:
            UserWarning: Once in a run, that nobody tells which exporter it is.
        """
        identity = self._identity()
        check_identity(wanted, identity.name, identity.labels, self.where)
        self._warn_of_unknown(wanted, identity)
        with ExitStack() as stack:
            connection = ExporterConnection(self._portal, self._policy())
            stack.callback(connection.close)
            drivers = self._connect(connection)
            exporter = replace(identity, name=identity.name or self.nameless)
            log = self._follow_log(connection, wanted.role, stack)
            device = Device(
                role=wanted.role, exporter=exporter, lease=None, drivers=drivers, portal=connection.portal, log=log
            )
            stack.callback(put_away, device, self._events, "its fixture was torn down")
            self._healths[wanted.role] = health = Health()
            stack.callback(health.retire)
            health.attach(device, connection)
            self._events.on_ready(device)
            with only_in_this_process(stack):
                yield device

    def foresee(self, wanted: Wanted) -> Wanted:
        """Return what is wanted as it is: no hook changes it, for there is no lease."""
        return wanted

    def _follow_log(self, connection: ExporterConnection, role: str, stack: ExitStack) -> ExporterLog | None:
        if not self.reads_log or connection.channel is None:
            return None
        log = ExporterLog(self._portal, role)
        log.start(connection.channel)
        stack.callback(log.stop)
        return log

    def release_all(self) -> None:  # noqa: B027 - that is all it ever does
        """Do nothing: whoever gave the exporter takes it back."""

    def close(self) -> None:
        """End the event loop; the exporter stays."""
        self._portal.stop()

    @abstractmethod
    def _connect(self, connection: ExporterConnection) -> Drivers:
        """Return the driver clients."""

    @property
    def _passphrase(self) -> str:
        return Token(self._environ.get("JMP_GRPC_PASSPHRASE", ""))

    def _channel(self, endpoint: str, tls: Tls | None) -> grpc.aio.Channel:
        """Return a channel to `HOST:PORT`, over TLS or in plain text; in the portal's loop."""
        import grpc
        from jumpstarter.exporter.auth import passphrase_client_interceptors

        interceptors = passphrase_client_interceptors(self._passphrase) if self._passphrase else None
        options = channel_options(endpoint)
        if tls is None:
            return grpc.aio.insecure_channel(endpoint, options=options, interceptors=interceptors)
        credentials = tls.credentials(endpoint)
        return grpc.aio.secure_channel(endpoint, credentials, options=options, interceptors=interceptors)

    def _identity(self) -> ExporterIdentity:
        labels = self._environ.get("JMP_EXPORTER_LABELS")
        pairs = (pair.partition("=") for pair in labels.split(",")) if labels else ()
        return ExporterIdentity(
            name=self._environ.get("JMP_EXPORTER", ""),
            labels=None if labels is None else {key: value for key, _, value in pairs if key},
        )

    def _warn_of_unknown(self, wanted: Wanted, identity: ExporterIdentity) -> None:
        if self._has_warned or not is_unknown(wanted, identity.name, identity.labels):
            return
        warnings.warn(
            f"{asked_for(wanted)}, but the environment does not tell which exporter is at {self.place} "
            "(JMP_EXPORTER, JMP_EXPORTER_LABELS): it is used unchecked",
            stacklevel=2,
        )
        self._has_warned = True  # and not before: where a warning is an error, each test gets it

    def _policy(self) -> DriverPolicy:
        """Read the allow-list as Jumpstarter itself does, with its own code."""
        from jumpstarter.config.client import ClientConfigV1Alpha1Drivers

        drivers = ClientConfigV1Alpha1Drivers()
        return DriverPolicy(
            allow=tuple(drivers.allow), unsafe=drivers.unsafe, source="JMP_DRIVERS_ALLOW in the environment"
        )

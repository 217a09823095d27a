"""`GivenSource`: a device that is used without a lease of ours, because somebody else provides it."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.tls import Tls, channel_options
from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_connection import TlsAdvice, socket_target
from pytest_jumpstarter.leasing.connect import Access, Connector, ConsolePolicy, only_in_this_process
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import asked_for, check_identity, is_unknown
from pytest_jumpstarter.leasing.lease_request import Wanted

if TYPE_CHECKING:
    import grpc

    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.drivers import Drivers
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.leasing.lease import Reservation


class GivenExporter(Access):
    """
    Base class of exporters that are used without a lease of ours; nothing is leased or released.

    Args:
        environ: The environment, which may contain the exporter's name and labels, and the passphrase.

    Attributes:
        where: Describes the exporter, or its owner, in messages.
        address: Where it is reached, for messages.
        default_name: The exporter's name if it is unknown.
    """

    where: str
    address: str
    default_name: str = ""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._has_warned = False

    @property
    def identity(self) -> ExporterIdentity:
        """The name and labels of the exporter from the environment, with `default_name` if the name is unknown."""
        return ExporterIdentity(name=self._name or self.default_name, labels=self._labels)

    @property
    def end_reason(self) -> str:
        """Why the device can no longer be used, for messages."""
        return "its fixture was torn down"

    @property
    def policy(self) -> DriverPolicy:
        """The allow-list of driver clients in the environment, read by Jumpstarter's own code."""
        from jumpstarter.config.client import ClientConfigV1Alpha1Drivers

        drivers = ClientConfigV1Alpha1Drivers()
        return DriverPolicy(
            allow=tuple(drivers.allow), unsafe=drivers.unsafe, source="JMP_DRIVERS_ALLOW in the environment"
        )

    def check(self, wanted: Wanted) -> None:
        """
        Check that the exporter is what `wanted` asks for.

        Raises:
            DeviceMismatch: Its name or labels contradict `wanted`.

        Warns:
            UserWarning: Its name or labels are unknown; once in a run.
        """
        check_identity(wanted, self._name, self._labels, self.where)
        if self._has_warned or not is_unknown(wanted, self._name, self._labels):
            return
        warnings.warn(
            f"{asked_for(wanted)}, but the environment does not tell which exporter is at {self.address} "
            "(JMP_EXPORTER, JMP_EXPORTER_LABELS), so it is not checked",
            stacklevel=2,
        )
        self._has_warned = True  # not earlier: if warnings are errors, each test gets it

    @property
    def _name(self) -> str:
        return self._environ.get("JMP_EXPORTER", "")

    @property
    def _labels(self) -> Mapping[str, str] | None:
        labels = self._environ.get("JMP_EXPORTER_LABELS")
        pairs = (pair.partition("=") for pair in labels.split(",")) if labels else ()
        return None if labels is None else {key: value for key, _, value in pairs if key}

    @property
    def _passphrase(self) -> str:
        return Token(self._environ.get("JMP_GRPC_PASSPHRASE", ""))

    def _channel(self, endpoint: str, tls: Tls | None) -> grpc.aio.Channel:
        """Return a channel to `HOST:PORT`, with TLS or in plain text; called in the portal's event loop."""
        import grpc
        from jumpstarter.exporter.auth import passphrase_client_interceptors

        interceptors = passphrase_client_interceptors(self._passphrase) if self._passphrase else None
        options = channel_options(endpoint)
        if tls is None:
            return grpc.aio.insecure_channel(endpoint, options=options, interceptors=interceptors)
        credentials = tls.credentials(endpoint)
        return grpc.aio.secure_channel(endpoint, credentials, options=options, interceptors=interceptors)


class GivenSource:
    """
    The device of one exporter that is used without a lease of ours.

    Args:
        exporter: The exporter.
        events: Receives what happens.
        healths: The health of each role's device; filled here.
        consoles: Settings of all consoles.
    """

    def __init__(
        self,
        exporter: GivenExporter,
        *,
        events: Events,
        healths: dict[str, Health],
        consoles: ConsolePolicy,
    ) -> None:
        self._exporter = exporter
        self._healths = healths
        self._connector = Connector(policy=exporter.policy, consoles=consoles, events=events, healths=healths)

    @contextmanager
    def devices(self, wanted: Sequence[Wanted]) -> Iterator[dict[str, Device]]:
        """
        Connect to the exporter and yield its device for each role.

        Raises:
            ConfigError: The exporter does not match, refuses the passphrase in JMP_GRPC_PASSPHRASE, or TLS is not
                configured correctly.
            DeviceUnreachable: It does not answer.
        """
        for each in wanted:
            self._exporter.check(each)
        with ExitStack() as stack:
            devices = {}
            for each in wanted:
                self._healths[each.role] = Health()
                devices[each.role] = self._connector.connect(each.role, self._exporter, stack)
            with only_in_this_process(stack):
                yield devices

    @property
    def leases(self) -> list[Lease]:
        """Always empty: the lease belongs to somebody else."""
        return []

    def foresee(self, wanted: Wanted) -> Wanted:
        """Return `wanted` unchanged: without a lease request, no hook changes it."""
        return wanted

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:  # noqa: ARG002
        """Keep nothing for people: the owner of the exporter decides about it."""
        return [], []

    def release_all(self) -> None:
        """Do nothing: there is no lease to release."""

    def close(self) -> None:
        """End the event loop."""
        self._connector.close()


_INSECURE_VARIABLES = ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")


_ADVICE = TlsAdvice(
    plain_text="JMP_GRPC_INSECURE=1 allows that",
    authority="GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=FILE trusts the certificate authority in FILE",
)


class ShellExporter(GivenExporter):
    """
    The exporter of the `jmp shell` around this process; the shell owns the lease.

    The shell also reads the exporter's log: with two readers, each would get a part of it.

    Source: JUMPSTARTER_HOST and the other variables that `jmp shell` sets (jumpstarter.config.env)
    """

    where = "the jmp shell around this run"
    address = "JUMPSTARTER_HOST"
    reads_log = False

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a channel to the address in JUMPSTARTER_HOST."""
        host = self._environ["JUMPSTARTER_HOST"]
        return connection.open_channel(
            lambda: self._channel_to(host), exporter=f"the exporter at JUMPSTARTER_HOST={host}", advice=_ADVICE
        )

    def _channel_to(self, host: str) -> grpc.aio.Channel:
        """
        Return the channel that Jumpstarter's own client would create: to a socket, without TLS and passphrase.

        Source: jumpstarter.client.client_from_path
        """
        import grpc

        if not _is_endpoint(host):
            return grpc.aio.secure_channel(*socket_target(host))
        is_plain = any(self._environ.get(name) == "1" for name in _INSECURE_VARIABLES)
        return self._channel(host, None if is_plain else Tls())


def _is_endpoint(host: str) -> bool:
    """Return whether `host` is `HOST:PORT`, not the path of a socket."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and port.isdecimal() and 1 <= int(port) <= 65535

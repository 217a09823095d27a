"""`ShellExporter`: the exporter of the `jmp shell` around this process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.config import INSECURE_VARIABLES, ClientConfig
from pytest_jumpstarter.client.v1.tls import Tls
from pytest_jumpstarter.device.connected_device import SHELL_VARIABLES
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_connection import TlsAdvice
from pytest_jumpstarter.errors import ClientConfigError
from pytest_jumpstarter.leasing.without_lease import GivenExporter

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.channel_target import ChannelTarget
    from pytest_jumpstarter.device.drivers import Drivers
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection

_DRIVER_VARIABLES = ("JMP_DRIVERS_ALLOW", "JMP_DRIVERS_UNSAFE")

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

    @property
    def policy(self) -> DriverPolicy:
        """What the environment allows; without a list in it, what the current client config does, as in `jmp`."""
        if not any(name in self._environ for name in _DRIVER_VARIABLES):
            with suppress(ClientConfigError):
                config = ClientConfig.load(environ=self._environ)
                source = f"drivers.allow of {config.source}"
                return DriverPolicy(allow=tuple(config.driver_allow), unsafe=config.driver_unsafe, source=source)
        return super().policy

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a channel to the address in JUMPSTARTER_HOST."""
        host = self._environ["JUMPSTARTER_HOST"]
        exporter = f"the exporter at JUMPSTARTER_HOST={host}"
        return connection.open_channel(self._target_at(host), exporter=exporter, advice=_ADVICE)

    def open_to_others(self, portal: BlockingPortal, stack: ExitStack) -> Mapping[str, str]:  # noqa: ARG002 - nothing is opened
        """Return nothing, because the shell has set the variables."""
        return {}

    def variables(self, portal: BlockingPortal, policy: DriverPolicy, stack: ExitStack) -> Mapping[str, str]:  # noqa: ARG002 - as above
        """Return the variables of the shell."""
        return {name: self._environ[name] for name in SHELL_VARIABLES if name in self._environ}

    def _target_at(self, host: str) -> ChannelTarget:
        """
        Return what Jumpstarter's own client would connect to: a socket, without TLS and passphrase, or an endpoint.

        Source: jumpstarter.client.client_from_path
        """
        from pytest_jumpstarter.device.channel_target import ChannelTarget

        if not _is_endpoint(host):
            return ChannelTarget.of_socket(host)
        is_plain = any(self._environ.get(name) == "1" for name in INSECURE_VARIABLES)
        return self._target(host, None if is_plain else Tls())


def _is_endpoint(host: str) -> bool:
    """Return whether `host` is `HOST:PORT`, not the path of a socket."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and port.isdecimal() and 1 <= int(port) <= 65535

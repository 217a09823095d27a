"""`ShellExporter`: the exporter of the `jmp shell` around this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.tls import Tls
from pytest_jumpstarter.device.exporter_connection import TlsAdvice, socket_target
from pytest_jumpstarter.leasing.given import GivenExporter

if TYPE_CHECKING:
    import grpc

    from pytest_jumpstarter.device.drivers import Drivers
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection

_INSECURE_VARIABLES = ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")
_ADVICE = TlsAdvice(
    plain_text="JMP_GRPC_INSECURE=1 allows that",
    authority="GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=FILE trusts the certificate authority in FILE",
)


class ShellExporter(GivenExporter):
    """
    The exporter of the `jmp shell` around this process: its lease is the shell's.

    Its log stream is left to the shell too: a second reader would steal half of it.

    Source: JUMPSTARTER_HOST and the other variables that `jmp shell` sets (jumpstarter.config.env)
    """

    where = "the jmp shell around this run"
    place = "JUMPSTARTER_HOST"
    reads_log = False

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a channel to where JUMPSTARTER_HOST says."""
        host = self._environ["JUMPSTARTER_HOST"]
        return connection.open_channel(
            lambda: self._channel_to(host), exporter=f"the exporter at JUMPSTARTER_HOST={host}", advice=_ADVICE
        )

    def _channel_to(self, host: str) -> grpc.aio.Channel:
        """
        Return the channel that Jumpstarter's own client would make: a socket's path has neither TLS nor passphrase.

        Source: jumpstarter.client.client_from_path
        """
        import grpc

        if not _is_endpoint(host):
            return grpc.aio.secure_channel(*socket_target(host))
        is_plain = any(self._environ.get(name) == "1" for name in _INSECURE_VARIABLES)
        return self._channel(host, None if is_plain else Tls())


def _is_endpoint(host: str) -> bool:
    """Tell whether this is `HOST:PORT` and no path."""
    _, colon, port = host.rpartition(":")
    return bool(colon) and port.isdecimal() and 1 <= int(port) <= 65535

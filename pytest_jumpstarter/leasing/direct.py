"""`DirectExporter`: one exporter over TCP, without a lab controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.tls import Tls, certificate_of
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import CONNECT_TIMEOUT, TlsAdvice
from pytest_jumpstarter.errors import ConfigError, DeviceUnreachable, OptionError
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.without_lease import GivenExporter

if TYPE_CHECKING:
    from contextlib import ExitStack

    from anyio.from_thread import BlockingPortal

    from pytest_jumpstarter.device.exporter_connection import ExporterConnection

PLAIN_TEXT = "grpc://"
"""Before an endpoint: no TLS."""


class DirectExporter(GivenExporter):
    """
    One exporter that accepts connections without a lease, as `jmp run --tls-grpc-listener` does.

    It does not report its name and labels; `JMP_EXPORTER` and `JMP_EXPORTER_LABELS` may give them. Inside a `jmp shell`
    these variables are ignored, because there they describe the exporter of the shell.

    Args:
        address: `HOST:PORT` for TLS, or `grpc://HOST:PORT` for plain text.
        ca: File with the certificates to trust instead of those of the system.
        source: The option that gives the address, for messages: `--jmp-direct`.
        environ: Contains passphrase, allow-list and identity.

    Raises:
        OptionError: The file with the certificates cannot be read.
    """

    def __init__(
        self,
        address: str,
        *,
        ca: Path | None,
        source: str,
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(environ)
        self._endpoint = address.removeprefix(PLAIN_TEXT)
        self._ca = ca
        tls = Tls(ca=_read(ca))
        self._tls = None if address.startswith(PLAIN_TEXT) else tls
        self._source = source
        self._role = ""
        self.address = self.default_name = self._endpoint
        self.where = f"{self._endpoint} ({source})"

    @property
    def policy(self) -> DriverPolicy:
        """What the environment allows; without an allow-list all, as `jmp` does for a user who names the exporter."""
        policy = super().policy
        return policy if policy.allow else replace(policy, unsafe=True)

    def check(self, wanted: Wanted) -> None:
        """
        Check that the exporter is what `wanted` asks for.

        Raises:
            ConfigError: Another role uses it already.
            DeviceMismatch: Its name or labels contradict `wanted`.
        """
        self._role = self._role or wanted.role
        if wanted.role != self._role:
            raise ConfigError(
                f"{self.where} is a single device and {self._role!r} uses it, so there is none for {wanted.role!r}; "
                "to use several devices, lease them from a lab"
            )
        super().check(wanted)

    def open(self, connection: ExporterConnection) -> Drivers:
        """Open a channel to the address."""
        exporter = f"the exporter at {self.where}"
        advice = TlsAdvice(
            plain_text=f"{PLAIN_TEXT}{self._endpoint} allows that",
            authority="--jmp-direct-ca=FILE trusts the certificate authority in FILE",
        )
        try:
            target = self._target(self._endpoint, self._tls)
            return connection.open_channel(target, exporter=exporter, advice=advice)
        except DeviceUnreachable as exc:
            if self._tls is None and _speaks_tls(self._endpoint):
                raise ConfigError(
                    f"{exporter} speaks TLS, not plain text; leave out {PLAIN_TEXT} in {self._source}"
                ) from exc
            raise

    def open_to_others(self, portal: BlockingPortal, stack: ExitStack) -> Mapping[str, str]:  # noqa: ARG002 - nothing is opened
        """Return the address of the exporter; the passphrase is in the environment already."""
        found = {"JUMPSTARTER_HOST": self._endpoint}
        if self._tls is None:
            found["JMP_GRPC_INSECURE"] = "1"
        elif self._ca is not None:
            found["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(self._ca.absolute())
        return found

    @property
    def _name(self) -> str:
        return "" if self._is_in_shell else super()._name

    @property
    def _labels(self) -> Mapping[str, str] | None:
        return None if self._is_in_shell else super()._labels

    @property
    def _is_in_shell(self) -> bool:
        return "JUMPSTARTER_HOST" in self._environ


def _read(ca: Path | None) -> bytes | None:
    try:
        return None if ca is None else ca.read_bytes()
    except OSError as exc:
        raise OptionError(f"certificate authority {ca} cannot be read: {exc.strerror}") from exc


def _speaks_tls(endpoint: str) -> bool:
    """Return whether the server at `endpoint` completes a TLS handshake."""
    try:
        return bool(certificate_of(endpoint, CONNECT_TIMEOUT / 4))
    except OSError:
        return False

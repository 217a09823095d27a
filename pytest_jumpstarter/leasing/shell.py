"""`ShellSource`: the device of the `jmp shell` around this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_jumpstarter.leasing.given import GivenSource

if TYPE_CHECKING:
    from pytest_jumpstarter.device.connection import Connection
    from pytest_jumpstarter.device.drivers import Drivers

_INSECURE_VARIABLES = ("JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE")


class ShellSource(GivenSource):
    """
    The device of the `jmp shell` around this process: its lease is the shell's.

    Its log stream is left to the shell too: a second reader would steal half of it.

    Source: JUMPSTARTER_HOST and the other variables that `jmp shell` sets (jumpstarter.config.env)
    """

    where = "the jmp shell around this run"
    place = "JUMPSTARTER_HOST"

    def _connect(self, connection: Connection) -> Drivers:
        host = self._environ["JUMPSTARTER_HOST"]
        return connection.open_host(
            host,
            insecure=any(self._environ.get(name) == "1" for name in _INSECURE_VARIABLES),
            passphrase=self._passphrase,
            exporter=f"the exporter at JUMPSTARTER_HOST={host}",
        )

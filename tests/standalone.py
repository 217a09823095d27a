"""Real exporters without a lab: `jmp run --tls-grpc-listener`, and drivers that this process serves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from jumpstarter.common import ExporterStatus
from jumpstarter.exporter import Session

from pytest_jumpstarter.device.channel_target import ChannelTarget
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, TlsAdvice
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.leasing.waiting import attempts

RunningExporter = Callable[..., AbstractContextManager[None]]

PASSPHRASE = "open-sesame-4711"

_CONFIG = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: alone, namespace: lab}
export: {power: {type: jumpstarter_driver_power.driver.MockPower}}
"""


@contextmanager
def serving(running_exporter: RunningExporter, folder: Path, *options: str, more: str = "") -> Iterator[str]:
    """Run an exporter with these options of `jmp run`, and `more` in its config; yield HOST:PORT of its listener."""
    (folder / "exporter.yaml").write_text(_CONFIG + more)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:  # jmp does not take port 0
        host, port = free.getsockname()
    with running_exporter(folder / "exporter.yaml", folder / "log", "--tls-grpc-listener", f"{host}:{port}", *options):
        assert any(is_listening(host, port) for _ in attempts(30, longest_pause=0.1))
        yield f"{host}:{port}"


@contextmanager
def serving_drivers(root: Any) -> Iterator[str]:
    """Serve a driver and those below it from this process, and yield the path of the socket."""
    session: Any = Session
    with session(root_device=root) as opened, opened.serve_unix() as path:
        opened.update_status(ExporterStatus.LEASE_READY)
        yield str(path)


@contextmanager
def served(root: Any) -> Iterator[Drivers]:
    """Serve a driver as exporters do, and yield what there is for whoever connects."""
    with serving_drivers(root) as path, ExitStack() as stack:
        portal = Portal()
        stack.callback(portal.stop)
        connection = ExporterConnection(portal, DriverPolicy(unsafe=True, source="the test"))
        stack.callback(connection.close)
        yield connection.open_channel(
            ChannelTarget.of_socket(path), exporter="it", advice=TlsAdvice(plain_text="", authority="")
        )


def is_listening(host: str, port: int) -> bool:
    """Tell whether a connection can be made."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex((host, port)) == 0

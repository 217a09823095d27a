"""
The client's part of a flash alone: behind the smallest router there can be is a driver that drops the image.

    python benchmarks/sink.py [--rounds 7] [--mib 256]

The sink is one process. It has TLS as a router has, passes each stream on to drivers of its own, and so does the work
of router and exporter, except for a second TLS connection and for writing. Ours and Jumpstarter's own client flash in
turn, each in a fresh process; CPU seconds are those of the client, and of the sink meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script

import anyio
import grpc
from jumpstarter.driver import Driver, export
from jumpstarter_driver_opendal.driver import FlasherInterface
from jumpstarter_protocol import router_pb2_grpc

from benchmarks.bench import write_image


class Discard(FlasherInterface, Driver):
    """A storage that drops what it gets."""

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def flash(self, source: str, target: str | None = None) -> None:  # noqa: ARG002 - as flashers have it
        """Read an image to its end."""
        async with self.resource(source) as stream:
            async for _ in stream:
                pass

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def dump(self, target: str, partition: str | None = None) -> None:
        """Do nothing."""


class Bridge(router_pb2_grpc.RouterServiceServicer):
    """Passes the streams of a router on to a unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def Stream(self, _frames: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        """Pass one stream on."""
        from jumpstarter.streams.common import forward_stream
        from jumpstarter.streams.router import RouterStream

        new_stream: Any = RouterStream
        async with (
            await anyio.connect_unix(self._path) as there,
            new_stream(context=context) as here,
            forward_stream(here, there),
        ):
            pass


async def serve() -> None:
    """Serve until standard input ends; prints `HOST:PORT`, the certificate authority, and the process's CPU seconds."""
    from jumpstarter.common import ExporterStatus
    from jumpstarter.config.exporter import ExporterConfigV1Alpha1DriverInstance
    from jumpstarter.exporter import Session

    from pytest_jumpstarter.lab.authority import Authority

    drivers = {"storage": {"type": "benchmarks.sink.Discard"}}
    values = {"type": "jumpstarter_driver_composite.driver.Composite", "children": drivers}
    root = ExporterConfigV1Alpha1DriverInstance.model_validate(values).instantiate()
    authority = Authority()
    new_session: Any = Session  # it carries no types
    with new_session(root_device=root) as session:
        session.update_status(ExporterStatus.LEASE_READY)
        async with session.serve_unix_async() as path:
            server = grpc.aio.server()
            router_pb2_grpc.add_RouterServiceServicer_to_server(Bridge(str(path)), server)
            keys = authority.keys
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(keys.server, keys.chain)]))
            await server.start()
            print(f"127.0.0.1:{port}", authority.ca, flush=True)
            while await asyncio.to_thread(sys.stdin.readline):
                print(time.process_time(), flush=True)
            await server.stop(grace=0)


@contextmanager
def ours(endpoint: str, ca: str) -> Iterator[Any]:
    """Connect as the plugin does."""
    from pytest_jumpstarter.client.v1 import Route, channel_options
    from pytest_jumpstarter.device.drivers import DriverPolicy
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.portal import Portal
    from pytest_jumpstarter.device.tunnel import RouterChannels, Tunnel

    credentials = grpc.ssl_channel_credentials(base64.b64decode(ca))
    tunnel = Tunnel(
        lambda _: Route(endpoint=endpoint, token="none"), RouterChannels(lambda _: credentials, channel_options)
    )
    with ExitStack() as stack:
        portal = Portal()
        stack.callback(portal.stop)
        connection = ExporterConnection(portal, DriverPolicy(unsafe=True, source="the benchmark"))
        stack.callback(connection.close)
        yield connection.open_tunnel(tunnel, exporter="the sink").root


@contextmanager
def theirs(endpoint: str, ca: str) -> Iterator[Any]:
    """Connect as Jumpstarter's leases do."""
    from anyio.from_thread import start_blocking_portal
    from jumpstarter.client import client_from_path
    from jumpstarter.common import TemporaryUnixListener
    from jumpstarter.common.streams import connect_router_stream
    from jumpstarter.config.tls import TLSConfigV1Alpha1

    tls = TLSConfigV1Alpha1(ca=ca)

    async def connect(stream: Any) -> None:
        async with connect_router_stream(endpoint, "none", stream, tls, {}):
            pass

    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())

        @asynccontextmanager
        async def client() -> AsyncIterator[Any]:
            async with (
                TemporaryUnixListener(connect) as path,
                client_from_path(str(path), portal, stack, allow=[], unsafe=True) as opened,
            ):
                yield opened

        yield stack.enter_context(portal.wrap_async_context_manager(client()))


SIDES: dict[str, Callable[[str, str], AbstractContextManager[Any]]] = {"ours": ours, "theirs": theirs}


def flash(side: str, endpoint: str, ca: str, image: Path) -> None:
    """Flash twice, and print the seconds and CPU seconds of the second time."""
    with SIDES[side](endpoint, ca) as root:
        root.storage.flash(str(image))
        print("READY", flush=True)
        sys.stdin.readline()
        begin, used = time.perf_counter(), time.process_time()
        root.storage.flash(str(image))
        found = {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - used}
        print("FOUND", json.dumps(found), flush=True)
        sys.stdin.readline()


class Process:
    """A process that is asked line by line."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.sink", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, word: str = "") -> str:
        """Send an empty line, and return the answer that begins with `word`."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self.read(word)

    def read(self, word: str = "") -> str:
        """Return the next line that begins with `word`."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise RuntimeError("it has failed")


def measure(sink: Process, side: str, place: list[str], image: Path) -> dict[str, float]:
    """Return the MB/s of one flash, and the CPU seconds of both processes."""
    with Process("--flash", side, *place, str(image)) as process:
        process.read("READY")
        before = float(sink.ask())
        found = json.loads(process.ask("FOUND"))
        after = float(sink.ask())
    size = image.stat().st_size / 1e6
    return {"MB/s": size / found["seconds"], "client, CPU s": found["cpu"], "sink, CPU s": after - before}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--flash", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return asyncio.run(serve())
    if args.flash:
        side, endpoint, ca, image = args.flash
        return flash(side, endpoint, ca, Path(image))
    found: dict[str, dict[str, list[float]]] = {side: {} for side in SIDES}
    with tempfile.TemporaryDirectory() as folder, Process("--serve") as sink:
        place = sink.read().split()
        image = write_image(Path(folder, "image"), args.mib)
        for _ in range(args.rounds):
            for side, figures in found.items():
                for name, value in measure(sink, side, place, image).items():
                    figures.setdefault(name, []).append(value)
    print("| flash to a sink | ours | theirs | ratio |\n| --- | --- | --- | --- |")
    for name in found["ours"]:
        our, their = found["ours"][name], found["theirs"][name]
        ratio = statistics.median(our) / statistics.median(their)
        print(f"| {name} | {spread(our)} | {spread(their)} | {ratio:.2f} |")
    return None


def spread(values: list[float]) -> str:
    """Return median, smallest and largest figure."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    main()

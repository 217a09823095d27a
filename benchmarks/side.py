"""
A process that does as one side does: lease, call, flash, echo; started by the command, and measured in its own process.

It prints `FIGURES` with what it measured, in JSON: first `cold`, the seconds from the start of this process until the
first driver call has returned; then for each line on standard input what one more lease is good for:

- `first`: `first`, the seconds from the request for a lease until the first driver call, with everything imported;
- `calls`: also `call`, a driver call's round trip;
- `all`: also the flash and the echo.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

ECHO_BYTES = 64 * 1024
WORD = "FIGURES"


@contextmanager
def ours(config_path: str, board: str) -> Iterator[Any]:
    """Lease and connect as the plugin does, with nothing left over from an earlier lease."""
    _import_grpc()
    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.leasing.from_controller import ControllerSource
    from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms

    config = ClientConfig.load(Path(config_path), environ={})
    with Client.from_config(config) as client:
        source = ControllerSource(client, config, events=Events(), ids=LeaseIds(), terms=Terms(), healths={})
        with ExitStack() as stack:
            stack.callback(source.close)
            yield stack.enter_context(source.device(Wanted(role="dut", selector=f"board={board}")))


@contextmanager
def ours_in_shell(socket_path: str, _board: str) -> Iterator[Any]:
    """Connect as the plugin does inside a `jmp shell`."""
    _import_grpc()
    from pytest_jumpstarter.leasing.in_shell import ShellExporter

    os.environ |= {"JUMPSTARTER_HOST": socket_path, "JMP_DRIVERS_ALLOW": "UNSAFE"}
    with _given(ShellExporter(os.environ)) as dut:
        yield dut


@contextmanager
def ours_directly(address: str, _board: str) -> Iterator[Any]:
    """Connect as the plugin does with `--jmp-direct`."""
    _import_grpc()
    from pytest_jumpstarter.leasing.direct import PLAIN_TEXT, DirectExporter

    with _given(DirectExporter(f"{PLAIN_TEXT}{address}", ca=None, source="the benchmark", environ={})) as dut:
        yield dut


def _import_grpc() -> None:
    from pytest_jumpstarter.host.grpc_import import import_grpc

    import_grpc()


@contextmanager
def _given(exporter: Any) -> Iterator[Any]:
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.leasing.connect import DeviceSettings
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.leasing.without_lease import GivenSource

    source = GivenSource(exporter, events=Events(), healths={}, settings=DeviceSettings())
    with ExitStack() as stack:
        stack.callback(source.close)
        devices = stack.enter_context(source.devices([Wanted(role="dut")]))
        yield devices["dut"]


@contextmanager
def theirs(config_path: str, board: str) -> Iterator[Any]:
    """Lease and connect as Jumpstarter's documentation does."""
    from jumpstarter.config.client import ClientConfigV1Alpha1

    config = ClientConfigV1Alpha1.from_file(Path(config_path))
    with config.lease(selector=f"board={board}") as lease, lease.connect() as client:
        yield client


@contextmanager
def without_lab(place: str, _board: str) -> Iterator[Any]:
    """Connect with Jumpstarter's client to a socket, or `HOST:PORT`, at which another process serves the drivers."""
    from anyio.from_thread import start_blocking_portal
    from jumpstarter.client import client_from_path

    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        manager = client_from_path(place, portal, stack, allow=[], unsafe=True, insecure=True)
        yield stack.enter_context(portal.wrap_async_context_manager(manager))


SIDES: dict[str, Callable[[str, str], AbstractContextManager[Any]]] = {
    "ours": ours,
    "theirs": theirs,
    "ours in a shell": ours_in_shell,
    "theirs in a shell": without_lab,
    "ours directly": ours_directly,
    "theirs directly": without_lab,
}


def measure_call(dut: Any, count: int) -> float:
    """Return the milliseconds of a driver call's round trip, the median of many."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        dut.power.on()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def measure_flash(dut: Any, image: Path) -> dict[str, float]:
    """Return throughput, and what it cost this process: CPU seconds, and the most memory it ever had."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    dut.storage.flash(str(image))
    taken = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = after.ru_maxrss / 1024 if sys.platform == "linux" else after.ru_maxrss / 1024**2
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"flash": image.stat().st_size / 1e6 / taken, "flash_cpu": cpu, "flash_memory": peak}


def measure_echo(dut: Any, count: int) -> float:
    """Return MB/s of blocks that are sent and awaited back, one after the other."""
    block = bytes(ECHO_BYTES)
    with dut.echo.stream() as stream:
        start = time.perf_counter()
        for _ in range(count):
            stream.send(block)
            received = 0
            while received < ECHO_BYTES:
                received += len(stream.receive())
        return count * ECHO_BYTES / 1e6 / (time.perf_counter() - start)


def report(**figures: float) -> None:
    """Print what was measured."""
    print(WORD, json.dumps(figures), flush=True)


def main() -> None:
    """Take the steps, each when it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("place", help="Client config, or socket of the drivers")
    parser.add_argument("board", help="Value of the label `board` to lease by")
    parser.add_argument("image", type=Path)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--blocks", type=int, required=True)
    parser.add_argument("--started", type=float, required=True, help="When this process was started, monotonic")
    args = parser.parse_args()
    connect = SIDES[args.side]
    with connect(args.place, args.board) as dut:
        dut.power.on()
        report(cold=time.monotonic() - args.started)
    for line in sys.stdin:
        start = time.monotonic()
        with connect(args.place, args.board) as dut:
            dut.power.on()
            order, figures = line.strip(), {"first": time.monotonic() - start}
            if order != "first":
                figures["call"] = measure_call(dut, args.calls)
            if order == "all":
                figures |= measure_flash(dut, args.image)
                figures["echo"] = measure_echo(dut, args.blocks)
            report(**figures)


if __name__ == "__main__":
    main()

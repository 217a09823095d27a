"""
What a console costs, beside pexpect and labgrid on a serial port of this machine.

    python benchmarks/console.py [--rounds 7] [--no-labgrid]

A board behind a pseudo-terminal answers each line. Ours is reached through the embedded lab, its router and an exporter
with Jumpstarter's driver for serial ports, and so is *theirs*, by Jumpstarter's own client. *Shell* is that client on
the socket of an exporter, without lab and router: what exporter and client take in any case. Raw pexpect and labgrid's
`SerialDriver` (if it is installed) have a terminal of this machine. Turn and turn about:

- *round trip*: `sendline` and `expect` of a short answer, the median of many;
- *bulk*: 64 KiB of output, then `expect`; CPU seconds are those of this process;
- *backlog*: a regular expression on 2.5, 5 and 10 MiB that have come already, beside pexpect with `maxread=65536` on a
  file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script

import pexpect.fdpexpect

from benchmarks.processes import MeasuringProcess, served_drivers
from benchmarks.side import ours, report, theirs, without_lab
from pytest_jumpstarter.lab import Lab

EXPORT = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: serial, {metadata}}}
export:
  console: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: {tty}}}}}
"""
BULK_BYTES = 64 * 1024
ROUND_TRIPS = 300
BULKS = 20
MIB = 1 << 20
BACKLOGS = (2.5, 5.0, 10.0)
LINE = "[   12.345678] usb 1-1: new high-speed USB device number 4 using xhci_hcd\r\n"
PATTERNS = (r"login: ", r"U-Boot \S+ .*\n", r"board-\d+\.\d+ login: ")

BOARD = """
import os, sys
number, size = int(sys.argv[1]), int(sys.argv[2])
line = sys.argv[3].encode()
bulk = (line * (size // len(line) + 1))[:size]
said = b""
while True:
    said += os.read(number, 4096)
    while b"\\n" in said:
        command, _, said = said.partition(b"\\n")
        answer = memoryview(bulk + b"BULK ENDS\\r\\n" if command.strip() == b"bulk" else b"pong\\r\\n")
        while answer:
            answer = answer[os.write(number, answer):]
"""

Run = Callable[[str, str], None]
"""Sends a line, and waits for the end of the answer."""


@contextmanager
def board() -> Iterator[str]:
    """Run a board behind a pseudo-terminal, and return its path."""
    near, far = os.openpty()
    tty.setraw(near)
    tty.setraw(far)
    command = [sys.executable, "-c", BOARD, str(near), str(BULK_BYTES), LINE]
    process = subprocess.Popen(command, pass_fds=[near])
    try:
        yield os.ttyname(far)
    finally:
        process.kill()
        process.wait()
        os.close(near)
        os.close(far)


@contextmanager
def lab_of(path: str) -> Iterator[Lab]:
    """Run a lab whose exporter has the board."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lab.yaml")
        file.write_text(EXPORT.format(tty=path, metadata="labels: {board: serial}"))
        with Lab([file]) as lab:
            yield lab


@contextmanager
def by_us(path: str) -> Iterator[Run]:
    """Reach the board through the embedded lab."""
    with lab_of(path) as lab, ours(str(lab.client_config), "serial") as dut:
        yield partial(_run, dut.console())


@contextmanager
def by_jumpstarter(path: str) -> Iterator[Run]:
    """Reach the board through the embedded lab by Jumpstarter's own client."""
    with lab_of(path) as lab, theirs(str(lab.client_config), "serial") as client, client.console.pexpect() as session:
        yield partial(_run, _as_text(session))


@contextmanager
def in_shell(path: str) -> Iterator[Run]:
    """Reach the board by Jumpstarter's own client on the socket of an exporter."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "exporter.yaml")
        file.write_text(EXPORT.format(tty=path, metadata="namespace: none") + "endpoint: none:1\ntoken: none\n")
        with (
            served_drivers(file) as (socket, _),
            without_lab(socket, "serial") as client,
            client.console.pexpect() as session,
        ):
            yield partial(_run, _as_text(session))


def _run(session: Any, line: str, wanted: str) -> None:
    session.sendline(line)
    session.expect(wanted)


def _as_text(session: Any) -> Any:
    """Return a session of pexpect with text in place of bytes, as the others have it."""
    return pexpect.fdpexpect.fdspawn(session.child_fd, encoding="utf-8", timeout=30)


@contextmanager
def by_pexpect(path: str) -> Iterator[Run]:
    """Reach the board by pexpect alone."""
    number = os.open(path, os.O_RDWR | os.O_NOCTTY)
    yield partial(_run, pexpect.fdpexpect.fdspawn(number, encoding="utf-8", timeout=30))
    os.close(number)


@contextmanager
def by_labgrid(path: str) -> Iterator[Run]:
    """Reach the board by labgrid's driver for serial ports."""
    labgrid, drivers, resources = map(import_module, ("labgrid", "labgrid.driver", "labgrid.resource"))
    target = labgrid.Target("bench")
    resources.RawSerialPort(target, "port", port=path)
    driver = drivers.SerialDriver(target, "serial")
    target.activate(driver)

    def run(line: str, wanted: str) -> None:
        driver.sendline(line)
        driver.expect(wanted, timeout=30)

    yield run
    target.deactivate(driver)


def measure(run: Run) -> dict[str, float]:
    """Return the milliseconds of a round trip, MB/s of bulk, and the CPU milliseconds of both."""
    run("ping", "pong\r\n")
    times = []
    before = time.process_time()
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        run("ping", "pong\r\n")
        times.append(time.perf_counter() - start)
    trip_cpu = (time.process_time() - before) / ROUND_TRIPS
    start, before = time.perf_counter(), time.process_time()
    for _ in range(BULKS):
        run("bulk", "BULK ENDS\r\n")
    taken, bulk_cpu = time.perf_counter() - start, (time.process_time() - before) / BULKS
    return {
        "round trip, ms": statistics.median(times) * 1000,
        "round trip, CPU ms": trip_cpu * 1000,
        "bulk, MB/s": BULKS * BULK_BYTES / 1e6 / taken,
        "bulk, CPU ms for 64 KiB": bulk_cpu * 1000,
    }


SIDES: dict[str, Callable[[str], AbstractContextManager[Run]]] = {
    "ours": by_us,
    "theirs": by_jumpstarter,
    "shell": in_shell,
    "pexpect": by_pexpect,
    "labgrid": by_labgrid,
}


def measure_on_order(side: str) -> None:
    """Measure a side once for each line of input; its process is its own, since gRPC's event loops wake each other."""
    with board() as path, SIDES[side](path) as run:
        for _ in sys.stdin:
            report(**measure(run))


def backlog(size: float, pattern: str, *, is_ours: bool) -> float:
    """Return the CPU seconds of `expect` on output that has come already."""
    text = LINE.encode() * int(size * MIB / len(LINE)) + b"U-Boot 2024.01 (Jan 01)\r\nboard-1.2 login: "
    if is_ours:
        return _our_backlog(text, pattern)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(text)
        file.seek(0)
        session: Any = pexpect.fdpexpect.fdspawn(file.fileno(), encoding="utf-8", maxread=1 << 16)
        before = time.process_time()
        session.expect(pattern)
        return time.process_time() - before


def _our_backlog(text: bytes, pattern: str) -> float:
    from anyio.from_thread import start_blocking_portal

    from benchmarks.loopback import Loopback
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.device.shared_port import SharedPort

    with start_blocking_portal() as portal:
        driver: Any = Loopback()
        port = SharedPort(driver, "console")
        port.recording.append(text)
        console = Console(port, portal, begin=0, name="console")
        before = time.process_time()
        console.expect(pattern)
        used = time.process_time() - before
        console.close()
        port.close(portal)
        return used


def spread(values: list[float]) -> str:
    """Return median, smallest and largest figure."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-labgrid", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure_on_order(args.side)
        return
    sides = [side for side in SIDES if side != "labgrid" or not args.no_labgrid]
    found: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    with ExitStack() as stack:
        commands = {side: [sys.executable, __file__, f"--side={side}"] for side in sides}
        processes = [stack.enter_context(MeasuringProcess(*command)) for command in commands.items()]
        for _ in range(args.rounds):
            for process in processes:
                for name, value in process.figures("again").items():
                    found[process.name].setdefault(name, []).append(value)
    print(f"| what | {' | '.join(sides)} |")
    for name in found["ours"]:
        print(f"| {name} | {' | '.join(spread(found[side][name]) for side in sides)} |")
    print("\n| expect on a backlog, CPU s | ours | pexpect, maxread=65536 | ratio |")
    for pattern in PATTERNS:
        for size in BACKLOGS:
            our, their = ([backlog(size, pattern, is_ours=side) for _ in range(3)] for side in (True, False))
            ratio = statistics.median(our) / statistics.median(their)
            print(f"| {pattern!r}, {size:g} MiB | {spread(our)} | {spread(their)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()

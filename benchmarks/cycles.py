"""
Count what must return to where it began after many leases in one process.

Each cycle leases one of two exporters, calls a driver and gives the board back. File descriptors and threads of this
process, file descriptors of the lab's, temporary folders and active leases are counted after a warm-up and at the end;
the exit code is 1 if any of them grew.

    python benchmarks/cycles.py [--cycles 500]
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.from_controller import ControllerSource
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms

WARM_UP = 10
EXPORTER = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: mock-{number}, labels: {{board: mock}}}}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
"""


def cycle(source: ControllerSource) -> None:
    """Lease, call, give back."""
    with source.device(Wanted(role="dut", selector="board=mock")) as device:
        device.power.on()


def count(lab: Lab, client: Client, temporary: Path) -> dict[str, int]:
    """Return how many there are of everything that must not grow."""
    gc.collect()
    return {
        "file descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "file descriptors of the lab": len(os.listdir(f"/proc/{lab.pid}/fd")),
        "temporary folders": len(list(temporary.iterdir())),
        "active leases": len(list(client.list_leases())),
    }


def resident_kib() -> int:
    """Return the resident memory of this process in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def settled(lab: Lab, client: Client, temporary: Path, limit: dict[str, int]) -> dict[str, int]:
    """Count until nothing is above `limit`, for ten seconds at most: sockets close a moment after their streams."""
    deadline = time.monotonic() + 10.0
    while True:
        counts = count(lab, client, temporary)
        if all(counts[name] <= limit[name] for name in limit) or time.monotonic() > deadline:
            return counts
        time.sleep(0.2)


def main() -> int:
    """Run the cycles, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=500)
    cycles = parser.parse_args().cycles
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "temporary")
        temporary.mkdir()
        tempfile.tempdir = str(temporary)
        file = Path(folder, "lab.yaml")
        file.write_text("---\n".join(EXPORTER.format(number=number) for number in (1, 2)))
        with Lab([file]) as lab, Client.from_config(lab.client_config) as client:
            config = ClientConfig.load(lab.client_config, environ={})
            source = ControllerSource(client, config, events=Events(), ids=LeaseIds(), terms=Terms(), healths={})
            for _ in range(WARM_UP):
                cycle(source)
            before, memory = count(lab, client, temporary), resident_kib()
            start = time.perf_counter()
            for _ in range(cycles):
                cycle(source)
            taken = time.perf_counter() - start
            after = settled(lab, client, temporary, before)
            grown = resident_kib() - memory
            source.close()
        tempfile.tempdir = None
    print("| what | before | after |\n| --- | --- | --- |")
    for name in before:
        print(f"| {name} | {before[name]} | {after[name]} |")
    print(f"\n{cycles} cycles in {taken:.1f} s; resident memory grew by {grown} KiB, {grown / cycles:.1f} KiB a cycle")
    return int(any(after[name] > before[name] for name in before))


if __name__ == "__main__":
    sys.exit(main())

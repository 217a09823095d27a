"""
Time from CreateLease to the end of the first driver call: ours beside Jumpstarter's own client.

Both lease the same exporter of the same embedded lab, which holds each assignment back for 100 ms as a busy lab
controller does, in one process with driver clients imported, turn and turn about.

    python benchmarks/time_to_device.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jumpstarter.config.client import ClientConfigV1Alpha1

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.request import LeaseIds, Terms
from pytest_jumpstarter.leasing.source import ControllerSource
from pytest_jumpstarter.leasing.waiting import attempts

ASSIGN_DELAY = 0.1
EXPORTER = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: mock-1, labels: {board: mock}}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
"""


def ours(source: ControllerSource) -> float:
    """Lease, connect and call once, as the plugin does; return the seconds until the call returned."""
    start = time.perf_counter()
    with source.device(Wanted(role="dut", selector="board=mock")) as device:
        device.power.on()
        return time.perf_counter() - start


def theirs(config: ClientConfigV1Alpha1) -> float:
    """Lease, connect and call once, as Jumpstarter's documentation does; return the seconds until the call returned."""
    start = time.perf_counter()
    with config.lease(selector="board=mock") as lease, lease.connect() as client:
        client.power.on()
        return time.perf_counter() - start


def wait_until_free(client: Client) -> None:
    """Wait until the exporter has cleaned up after the lease before, which is not what is measured."""
    for _ in attempts(30.0):
        if client.get_exporter("mock-1").status == "AVAILABLE" and not list(client.list_leases()):
            return
    raise TimeoutError("the exporter did not become available again")


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round for both sides; a first round of each is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lab.yaml")
        file.write_text(EXPORTER)
        with Lab([file], assign_delay=ASSIGN_DELAY) as lab, Client.from_config(lab.client_config) as client:
            source = ControllerSource(
                client,
                ClientConfig.load(lab.client_config, environ={}),
                events=Events(),
                ids=LeaseIds(),
                terms=Terms(),
                healths={},
            )
            config = ClientConfigV1Alpha1.from_file(lab.client_config)
            sides: dict[str, Callable[[], float]] = {"ours": lambda: ours(source), "theirs": lambda: theirs(config)}
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(rounds + 1):
                for name, run in sides.items():
                    wait_until_free(client)
                    taken = run()
                    if number:
                        seconds[name].append(taken)
            source.close()
            return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    seconds = measure(args.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| CreateLease to first driver call | median | min | max |")
    print("| --- | --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {medians[name]:.3f} s | {min(values):.3f} s | {max(values):.3f} s |")
    print(f"\nratio of the medians: {medians['ours'] / medians['theirs']:.3f}")
    if args.json:
        args.json.write_text(json.dumps({"seconds": seconds, "medians": medians}, indent=2))


if __name__ == "__main__":
    main()

"""
What recording a console costs, and that it loses nothing.

    python benchmarks/recorder.py [--duration 30s] [--calls 300] [--rounds 5]

A board says numbered lines at 2 MB/s and reboots in the middle, while nobody reads; the record must hold each byte, and
the process must not grow with it. Then driver calls are timed: beside a console that is recorded and silent, or talks
at the pace of 115200 baud, against no console, or one that talks as much and is read without a recorder. Exit code 1
where bytes are missing or memory grew; how long calls take is for people to judge, since a busy machine scatters more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script

from benchmarks.side import ours
from benchmarks.talker import LINE_BYTES, numbered
from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.lab import Lab

RATE = 2_000_000
SLOW_RATE = 11_520
GROWTH_LIMIT = 32 << 20
"""Bytes by which the process may grow: what gRPC has in flight, and the index of times."""

EXPORT = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: {name}, labels: {{board: {name}}}}}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
  console: {{type: benchmarks.talker.Talker, config: {{rate: {rate}}}}}
"""


@contextmanager
def served() -> Iterator[Lab]:
    """Serve a board that talks fast and one that talks slowly."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lab.yaml")
        boards = {"fast": RATE, "slow": SLOW_RATE}
        file.write_text("---\n".join(EXPORT.format(name=name, rate=rate) for name, rate in boards.items()))
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        with Lab([file]) as lab:
            yield lab


def memory_bytes() -> int:
    """Return what this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def talk(dut: Any, duration: float, rate: int) -> int:
    """Let the board talk for so long, and return how many lines it will say."""
    lines = int(duration * rate / LINE_BYTES)
    connected(dut).record()
    with dut.drivers["console"].stream() as port:
        port.send(str(lines).encode())
    return lines


def measure_loss(lab: Lab, duration: float) -> bool:
    """Record at full speed with a reboot in the middle; tell whether nothing is missing and memory is bounded."""
    with ours(str(lab.client_config), "fast") as dut:
        dut.power.on()
        before = most = memory_bytes()
        start = time.monotonic()
        lines = talk(dut, duration, RATE)
        recording, has_rebooted = connected(dut).serial_ports[0].recording, False
        while recording.end < lines * LINE_BYTES and time.monotonic() < start + 2 * duration + 10:
            if not has_rebooted and time.monotonic() > start + duration / 2:
                with dut.drivers["console"].stream() as port:
                    port.send(b"reboot")
                has_rebooted = True
            most = max(most, memory_bytes())
            time.sleep(0.05)
        taken = time.monotonic() - start
        missing = sum(
            recording.read(first * LINE_BYTES, 1024 * LINE_BYTES)[1] != numbered(first, min(1024, lines - first))
            for first in range(0, lines, 1024)
        )
        growth = most - before
    print(f"recorded {recording.end / 1e6:.1f} MB of {lines * LINE_BYTES / 1e6:.1f} in {taken:.1f} s with a reboot; "
          f"{missing} blocks wrong; memory grew by {growth / 2**20:.1f} MiB")  # fmt: skip
    return not missing and recording.end == lines * LINE_BYTES and growth < GROWTH_LIMIT


@dataclass(frozen=True, slots=True)
class Cost:
    """What a driver call takes: milliseconds that pass, and milliseconds of CPU time of this process."""

    passed: float
    cpu: float

    @classmethod
    def of(cls, dut: Any, calls: int) -> Cost:
        """Measure; of the time that passes the first quartile, for others use the machine as well."""
        times, cpu = [], time.process_time()
        for _ in range(calls):
            start = time.perf_counter()
            dut.power.on()
            times.append(time.perf_counter() - start)
        return cls(statistics.quantiles(times)[0] * 1000, (time.process_time() - cpu) / calls * 1000)


def read_unrecorded(dut: Any) -> None:
    """Let the board talk, and read it as Jumpstarter's own client does."""
    driver = dut.drivers["console"]

    async def read() -> None:
        async with type(driver).stream_async(driver, "connect") as stream:  # the driver's own, which nobody shares
            await stream.send(str(600 * SLOW_RATE // LINE_BYTES).encode())
            while True:
                await stream.receive()

    driver.portal.start_task_soon(read)


def measure_round(lab: Lab, calls: int) -> dict[str, Cost]:
    """Return what a call takes in each of four cases."""
    with ours(str(lab.client_config), "slow") as dut:
        Cost.of(dut, calls // 2)  # until all is warm
        found = {"no console": Cost.of(dut, calls)}
        connected(dut).record()
        found["silent, recorded"] = Cost.of(dut, calls)
        talk(dut, 600.0, SLOW_RATE)
        found["talking, recorded"] = Cost.of(dut, calls)
        assert connected(dut).serial_ports[0].recording.end, "the board said nothing"
    with ours(str(lab.client_config), "slow") as dut:
        Cost.of(dut, calls // 2)
        read_unrecorded(dut)
        found["talking, read"] = Cost.of(dut, calls)
    return found


def measure_calls(lab: Lab, calls: int, rounds: int) -> None:
    """Time calls beside a recorded console, and beside none or one that is only read."""
    found = [measure_round(lab, calls) for _ in range(rounds)]
    for recorded, without in (("silent, recorded", "no console"), ("talking, recorded", "talking, read")):
        lines = []
        for name in ("passed", "cpu"):
            ratios = [getattr(each[recorded], name) / getattr(each[without], name) for each in found]
            times = [statistics.median(getattr(each[case], name) for each in found) for case in (recorded, without)]
            lines.append((statistics.median(ratios), min(ratios), max(ratios), *times))
        for name, line in zip(("time", "CPU time"), lines, strict=True):
            words = "{:.3f} x ({:.3f} to {:.3f}), {:.2f} ms and {:.2f}".format(*line)
            print(f"{name} of a call, {recorded} beside {without}: {words}")


def main() -> None:
    """Measure, and tell by the exit code whether all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=parse_duration, default=30.0)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with served() as lab:
        is_complete = measure_loss(lab, args.duration)
        measure_calls(lab, args.calls, args.rounds)
    sys.exit(0 if is_complete else 1)


if __name__ == "__main__":
    main()

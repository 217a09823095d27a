"""
Let eight runs at a time share four exporters while things go wrong, and see what is left behind.

Faults, at random: an exporter process is killed, a lease is released by somebody else, every connection through the
router is cut at once, a run gets SIGINT, SIGTERM or SIGKILL. The suite passes where nothing goes wrong, so a run may
end with 0, with 8 (device errors only), or by the signal it got; anything else is a wrong verdict. In the end no lease
may be active, and every exporter must be available again. The exit code is 1 if any of this does not hold.

    python benchmarks/soak.py [--duration 30m] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.lab.faults import order

RUNS, EXPORTERS, TTL = 8, 4, 10.0
RECOVERY_TIMEOUT = 120.0
REST = 65.0
"""Seconds between two kills of one exporter: a lab gives up one that dies five times within a minute of its start."""
EXPORTER = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: board-{number}, labels: {{board: virtual}}}}
export:
  board: {{type: pytest_jumpstarter.lab.board.VirtualBoard}}
  power: {{ref: board.power}}
  console: {{ref: board.console}}
"""
SUITE = """\
import pytest

@pytest.mark.parametrize("turn", range(5))
def test_boots(dut, console, turn):
    dut.power.off()
    dut.power.on()
    console.expect("login: ", timeout=30)
"""


@dataclass
class Soak:
    """One soak: the runs under way, and how those before them ended."""

    lab: Lab
    client: Client
    folder: Path
    dice: random.Random
    running: dict[subprocess.Popen[bytes], tuple[int, ...]] = field(default_factory=dict)
    logs: dict[subprocess.Popen[bytes], Path] = field(default_factory=dict)
    killed: dict[bytes, float] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def start_runs(self) -> None:
        """Start runs until there are enough."""
        while len(self.running) < RUNS:
            output = self.folder / f"run-{sum(self.ends.values()) + len(self.running)}.log"
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                f"--jmp-client={self.lab.client_config}",
            ]
            options = ["--jmp-selector=board=virtual", f"--jmp-ttl={TTL:g}", "--jmp-wait=5m", "test_soak.py"]
            with output.open("wb") as log:
                process = subprocess.Popen(
                    [*command, *options], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self.running[process] = (0, 8)
            self.logs[process] = output

    def harvest(self) -> None:
        """Note how runs have ended, and whether they should have."""
        for process, expected in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[process]
            self.ends[str(code)] += 1
            if code not in expected:
                self.wrong.append(f"exit {code}, expected one of {expected}: {self.logs[process].read_text()[-2000:]}")

    def harm(self) -> None:
        """Let one thing go wrong."""
        fault: Callable[[], bool] = self.dice.choice(
            [self.kill_exporter, self.release_lease, self.cut_connections, self.signal_run]
        )
        if fault():
            self.faults[fault.__name__] += 1

    def kill_exporter(self) -> bool:
        """Kill one exporter process; the lab starts it again."""
        now = time.monotonic()
        victims = {command_line(pid): pid for pid in children(self.lab.pid) if b"lab.exporter" in command_line(pid)}
        rested = [name for name in victims if now - self.killed.get(name, -REST) >= REST]
        if not rested:
            return False
        name = self.dice.choice(rested)
        self.killed[name] = now
        with suppress(ProcessLookupError):
            os.kill(victims[name], signal.SIGKILL)
        return True

    def release_lease(self) -> bool:
        """Release one lease that is in use."""
        leases = [lease for lease in self.client.list_leases() if lease.is_ready]
        if not leases:
            return False
        with suppress(RequestError):
            self.client.delete_lease(self.dice.choice(leases).name)
        return True

    def cut_connections(self) -> bool:
        """Cut every connection through the router."""
        return order(self.folder, "cut") != "0"

    def signal_run(self) -> bool:
        """Send one run a signal."""
        started = [process for process in self.running if self.logs[process].stat().st_size]  # else Python starts yet
        if not started:
            return False
        process = self.dice.choice(started)
        number = self.dice.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        # Before the first lease, and after the last, Python and pytest treat signals their own way.
        self.running[process] = (*self.running[process], -number, 128 + number, 2)
        process.send_signal(number)
        return True

    def finish(self) -> None:
        """Let the last runs end, then wait until nothing is held and every exporter is back."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT
        while self.running and time.monotonic() < deadline:
            self.harvest()
            time.sleep(0.2)
        for process in self.running:
            self.wrong.append(f"still running: {self.logs[process].read_text()[-2000:]}")
            process.kill()
        deadline = time.monotonic() + RECOVERY_TIMEOUT
        while time.monotonic() < deadline and self.left():
            time.sleep(0.5)
        self.wrong += self.left()

    def left(self) -> list[str]:
        """Return what is not as it was in the beginning."""
        leases = [f"leaked: {lease.name}" for lease in self.client.list_leases()]
        exporters = [exporter for exporter in self.client.list_exporters() if exporter.status != "AVAILABLE"]
        return leases + [f"wedged: {exporter.name} is {exporter.status}" for exporter in exporters]


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def command_line(pid: int) -> bytes:
    """Return the command line of a process; nothing if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def main() -> int:
    """Soak, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=parse_duration, default=parse_duration("30m"))
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lab.yaml").write_text("---\n".join(EXPORTER.format(number=n) for n in range(EXPORTERS)))
        (folder / "test_soak.py").write_text(SUITE)
        lab = Lab([folder / "lab.yaml"], arguments=["--faults", name])
        with lab, Client.from_config(lab.client_config) as client:
            soak = Soak(lab, client, folder, random.Random(args.seed))
            end = time.monotonic() + args.duration
            next_fault = time.monotonic() + 2.0
            while time.monotonic() < end:
                soak.start_runs()
                soak.harvest()
                if time.monotonic() > next_fault:
                    soak.harm()
                    next_fault = time.monotonic() + soak.dice.uniform(0.5, 4.0)
                time.sleep(0.1)
            soak.finish()
    print(f"seed {args.seed}, {args.duration:g} s, {sum(soak.ends.values())} runs")
    print("| faults |", " | ".join(f"{fault}: {count}" for fault, count in soak.faults.items()), "|")
    print("| exit codes |", " | ".join(f"{code}: {count}" for code, count in sorted(soak.ends.items())), "|")
    print("\n".join(soak.wrong) or "no leaked lease, no wedged exporter, no wrong verdict")
    return int(bool(soak.wrong))


if __name__ == "__main__":
    sys.exit(main())

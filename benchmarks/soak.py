"""
Let eight runs at a time share four exporters while things go wrong, and see what is left behind.

Faults, at random: an exporter process is killed or stands still for a while, a lease is released by somebody else,
every connection through the router is cut at once, a run gets SIGINT, SIGTERM or SIGKILL. And weather, one at a time:
the lab controller starts anew, its database or its router is away, a request fails, some are slow or get no answer, the
lab's process or that of the router stands still.

The suite passes where nothing goes wrong, so a run may end with 0, with 8 (device errors only), or by the signal it
got; anything else is a wrong verdict. In the end no lease may be active, and every exporter must be available again.
The exit code is 1 if any of this does not hold.

An exit code 8 has a cause if, while the run lasted, a fault was in effect that may cost its board: to all boards, or to
its board or lease. Requests that fail for less than two thirds of the time to live cost none. The others are counted.

    python benchmarks/soak.py [--duration 20m] [--seed N]
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

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # for its network

from forwarder import Forwarder

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.lab.faults import order

RUNS, EXPORTERS, TTL = 8, 4, 10.0
RECOVERY_TIMEOUT = 120.0
REST = 65.0
"""Seconds between two kills of one exporter: a lab gives up one that dies five times within a minute of its start."""
STARTS = (3.0, 13.0)
"""Seconds in which a lab controller that starts knows nobody's token: less than the 20 that a new run bears."""
CODES = ("UNKNOWN", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")
METHODS = (
    "GetLease",
    "GetExporter",
    "CreateLease",
    "UpdateLease",
    "DeleteLease",
    "ListLeases",
    "ListExporters",
    "Dial",
)
CALM = 3.0
"""Seconds between two troubles of the lab controller, so that they do not add up to what no run bears."""
AFTERMATH = 20.0
"""Seconds after a fault in which it may still cost a run its board."""
BEARABLE = TTL * 2 / 3
"""Seconds for which requests may fail: a lease is extended after a third of its time to live."""
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
    router: Forwarder
    client: Client
    folder: Path
    dice: random.Random
    running: dict[subprocess.Popen[bytes], tuple[int, ...]] = field(default_factory=dict)
    logs: dict[subprocess.Popen[bytes], Path] = field(default_factory=dict)
    began: dict[subprocess.Popen[bytes], float] = field(default_factory=dict)
    causes: list[tuple[float, str]] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    killed: dict[bytes, float] = field(default_factory=dict)
    frozen: dict[int, float] = field(default_factory=dict)
    clear: float = 0.0
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
            self.began[process] = time.monotonic()
            self.logs[process] = output

    def harvest(self) -> None:
        """Note how runs have ended, and whether they should have."""
        for process, expected in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[process]
            self.ends[str(code)] += 1
            said = self.logs[process].read_text()
            if code not in expected:
                self.wrong.append(f"exit {code}, expected one of {expected}: {said[-4000:]}")
            if code == 8 and not any(end > self.began[process] and whose in said for end, whose in self.causes):
                self.unexplained.append(said)

    def may_cost(self, duration: float, whose: str = "") -> None:
        """Note a fault that may cost runs their boards: all runs, or those with this exporter or lease."""
        self.causes.append((time.monotonic() + duration + AFTERMATH, whose))

    def harm(self) -> None:
        """Let one thing go wrong, unless nobody can be asked at present."""
        if self.lab.pid in self.frozen:
            return
        harms = [self.kill_exporter, self.freeze_exporter, self.release_lease, self.cut_connections, self.signal_run]
        weather = [self.start_controller, self.lose_database, self.lose_router]
        weather += [self.fail_once, self.silence, self.slow_down, self.freeze_lab, self.freeze_router]
        fault: Callable[[], bool] = self.dice.choice([*harms, *weather])
        with suppress(RequestError):  # what a fault has to ask may meet the one before
            if fault():
                self.faults[fault.__name__] += 1

    def kill_exporter(self) -> bool:
        """Kill one exporter process; the lab starts it again."""
        now, victims = time.monotonic(), self.exporters()
        rested = [name for name in victims if now - self.killed.get(name, -REST) >= REST]
        if not rested:
            return False
        name = self.dice.choice(rested)
        self.killed[name] = now
        self.may_cost(0.0, name_of(name))
        with suppress(ProcessLookupError):
            os.kill(victims[name], signal.SIGKILL)
        return True

    def freeze_exporter(self) -> bool:
        """Let one exporter process stand still for up to 17 seconds."""
        awake = {pid: name for name, pid in self.exporters().items() if pid not in self.frozen}
        if not awake:
            return False
        pid, seconds = self.dice.choice(list(awake)), self.dice.choice([1.0, 5.0, 17.0])
        self.may_cost(seconds, name_of(awake[pid]))
        return self.freeze(pid, seconds)

    def freeze_lab(self) -> bool:
        """Let the lab's process, with lab controller and router, stand still for up to 17 seconds."""
        long = [] if self.has_killed() else [17.0]
        return self.freeze_all(self.lab.pid, self.dice.choice([1.0, 5.0, *long]))

    def freeze_router(self) -> bool:
        """Let the process in front of the router stand still for up to 17 seconds."""
        return self.freeze_all(self.router.pid, self.dice.choice([1.0, 5.0, 17.0]))

    def freeze_all(self, pid: int, seconds: float) -> bool:
        """Let a process stand still that all runs need, unless other weather is under way or just over."""
        if not self.may_begin(seconds):
            return False
        if pid == self.lab.pid and seconds > STARTS[0]:
            self.killed |= dict.fromkeys(self.exporters(), time.monotonic())  # those that give up start again
        self.may_cost(seconds)
        return self.freeze(pid, seconds)

    def freeze(self, pid: int, seconds: float) -> bool:
        """Let a process stand still."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.frozen[pid] = time.monotonic() + seconds
        return True

    def thaw(self, *, everyone: bool = False) -> None:
        """Let those go on whose time is over."""
        for pid, until in list(self.frozen.items()):
            if everyone or time.monotonic() > until:
                del self.frozen[pid]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def exporters(self) -> dict[bytes, int]:
        """Return the exporter processes by their command lines."""
        return {command_line(pid): pid for pid in children(self.lab.pid) if b"lab.exporter" in command_line(pid)}

    def start_controller(self) -> bool:
        """Let the lab controller know nobody's token for a while, as one that has just started."""
        return self.weather("start", self.dice.uniform(*STARTS), whose=self.whose())

    def lose_database(self) -> bool:
        """Let the lab controller's Kubernetes API be away."""
        return self.weather("database", self.dice.uniform(1.0, 12.0), whose=self.whose())

    def lose_router(self) -> bool:
        """Let the router be away."""
        duration = self.dice.choice([1.0, 4.0])
        if has_begun := self.weather("router", duration):
            self.may_cost(duration)
        return has_begun

    def fail_once(self) -> bool:
        """Let one request fail."""
        method, code = self.dice.choice(METHODS), self.dice.choice(CODES)
        return self.weather(f'fail {method} {code} "soak: {code}" times 1', 10.0)

    def silence(self) -> bool:
        """Let some requests go without an answer."""
        return self.weather(f"silence {self.some_methods()}", self.dice.uniform(1.0, 12.0))

    def slow_down(self) -> bool:
        """Let some requests take long."""
        return self.weather(
            f"slow {self.some_methods()} {self.dice.uniform(0.2, 4.0):.1f}s", self.dice.uniform(2.0, 12.0)
        )

    def some_methods(self) -> str:
        """Return all methods, or a few."""
        return self.dice.choice(["all", ",".join(self.dice.sample(METHODS, 3))])

    def whose(self) -> str:
        """Return whose way to the lab controller suffers: exporters lose the lease, so not often."""
        if self.dice.random() < 0.7 or self.has_killed():
            return "clients"
        self.killed |= dict.fromkeys(self.exporters(), time.monotonic())
        return "everyone"

    def has_killed(self) -> bool:
        """Return whether an exporter was killed lately."""
        now = time.monotonic()
        return any(now - self.killed.get(name, -REST) < REST for name in self.exporters())

    def weather(self, what: str, duration: float, *, whose: str = "") -> bool:
        """Order a trouble, unless one is under way or just over."""
        if not self.may_begin(duration):
            return False
        order(self.folder, f"{what} for {duration:.1f}s" + (f" to {whose}" if whose else ""))
        if whose == "everyone" or (duration >= BEARABLE and " times 1" not in what):
            self.may_cost(duration)
        return True

    def may_begin(self, duration: float) -> bool:
        """Return whether no weather is under way or just over; then one of this duration begins."""
        now = time.monotonic()
        if now < self.clear:
            return False
        self.clear = now + duration + CALM
        return True

    def release_lease(self) -> bool:
        """Release one lease that is in use."""
        leases = [lease for lease in self.client.list_leases() if lease.is_ready]
        if not leases:
            return False
        name = self.dice.choice(leases).name
        self.may_cost(0.0, name)
        with suppress(RequestError):
            self.client.delete_lease(name)
        return True

    def cut_connections(self) -> bool:
        """Cut every connection through the router."""
        self.may_cost(0.0)
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
        self.thaw(everyone=True)
        order(self.folder, "calm")
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


def name_of(command: bytes) -> str:
    """Return the name of the exporter that a process serves."""
    return next(word for word in command.decode().split("\0") if word.startswith("board-"))


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
    parser.add_argument("--duration", type=parse_duration, default=parse_duration("20m"))
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lab.yaml").write_text("---\n".join(EXPORTER.format(number=n) for n in range(EXPORTERS)))
        (folder / "test_soak.py").write_text(SUITE)
        lab = Lab([folder / "lab.yaml"], arguments=["--faults", name])
        with lab, Forwarder(lab.endpoint) as router, Client.from_config(lab.client_config) as client:
            order(folder, f"router-endpoint {router.endpoint}")
            soak = Soak(lab, router, client, folder, random.Random(args.seed))
            end = time.monotonic() + args.duration
            next_fault = time.monotonic() + 2.0
            while time.monotonic() < end:
                soak.start_runs()
                soak.harvest()
                soak.thaw()
                if time.monotonic() > next_fault:
                    soak.harm()
                    next_fault = time.monotonic() + soak.dice.uniform(0.5, 4.0)
                time.sleep(0.1)
            soak.finish()
    print(f"seed {args.seed}, {args.duration:g} s, {sum(soak.ends.values())} runs")
    print("| faults |", " | ".join(f"{fault}: {count}" for fault, count in soak.faults.items()), "|")
    print("| exit codes |", " | ".join(f"{code}: {count}" for code, count in sorted(soak.ends.items())), "|")
    print(f"exit code 8 without a cause: {len(soak.unexplained)} of {soak.ends['8']}")
    for said in soak.unexplained:
        print(said[-2000:])
    print("\n".join(soak.wrong) or "no leaked lease, no wedged exporter, no wrong verdict")
    return int(bool(soak.wrong))


if __name__ == "__main__":
    sys.exit(main())

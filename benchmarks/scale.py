"""
Many leases at once on a lab of many exporters: what acquire and release take, and what a lease costs the lab.

The exporters have no drivers and live in one process (`standin.py`); so this is the way of a lease from the request to
an exporter that is ready, and back, without a connection to its drivers. All leases are asked for at the same moment,
by threads of one process with one channel. While they are held as many again wait for the same exporters, to count what
waiting costs: in all, and with a queue of two minutes or more the calls a second in each minute.

    python benchmarks/scale.py [--exporters 200] [--leases 1,10,50,200] [--queue 10]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, quantiles
from typing import TypeVar

from pytest_jumpstarter.client.v1 import Client, Request, Response
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing.acquire import Member, obtain_all
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease import ManagedLease
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.leasing.leases import Leases

T = TypeVar("T")
FEW = 100
"""How many leases are measured for each row at least, one after another where not that many at once."""
POOL = "lease"
"""How the names of the threads begin that acquire, wait and release."""

EXTERNAL = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: board-{number}, labels: {{board: scale}}}}
"""


class CountingClient(Client):
    """A client that counts its calls."""

    calls = 0
    _lock = threading.Lock()
    _times: list[float] = []  # noqa: RUF012  (there is one client)

    def rates(self, since: float, until: float) -> list[float]:
        """Return the calls a second in each minute that threads of the pool made; not those of held leases' watches."""
        minutes = Counter(int((moment - since) // 60) for moment in self._times if since <= moment < until)
        return [minutes[number] / 60 for number in range(int((until - since) // 60))]

    def send(self, request: Request) -> Response:
        """Count, then send."""
        with self._lock:
            self.calls += 1
            if threading.current_thread().name.startswith(POOL):
                self._times.append(time.monotonic())
        return super().send(request)


@dataclass(slots=True, kw_only=True)
class Row:
    """What was measured with one number of leases; times in seconds."""

    leases: int
    acquire: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    calls: dict[str, list[float]] = field(default_factory=dict)  # for each lease
    memory_mib: float = 0.0
    rates: list[float] = field(default_factory=list)  # of the queue, calls a second in each minute


@contextmanager
def served(folder: Path, exporters: int) -> Iterator[Lab]:
    """Serve a lab with that many exporters."""
    file = folder / "lab.yaml"
    file.write_text("---\n".join(EXTERNAL.format(number=number) for number in range(exporters)))
    with Lab([file]) as lab:
        command = [sys.executable, "-m", "benchmarks.standin", str(lab.config_dir / "exporters")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            if process.stdout.readline().strip() != "joined":
                raise RuntimeError("the exporters did not join")
            yield lab
            process.stdin.close()


class Scale:
    """Takes and gives back leases of one lab."""

    def __init__(self, lab: Lab, client: CountingClient) -> None:
        self._lab = lab
        self._client = client
        events = Events()
        policy = DriverPolicy(source="nobody: nothing is connected")
        self._connector = Connector(policy=policy, settings=DeviceSettings(), events=events, healths={})
        self._leases = Leases(
            client, events=events, ids=LeaseIds(), terms=Terms(ttl=3600.0), healths={}, connector=self._connector
        )

    def measure(self, leases: int, queue: float) -> Row:
        """Take that many leases at once and give them back, over and over if they are few; let as many wait once."""
        row = Row(leases=leases)
        with ThreadPoolExecutor(leases, thread_name_prefix=POOL) as pool:
            for is_last in [False] * (FEW // leases - 1) + [True]:
                held = self._all(pool, [self._acquire] * leases, row, "to acquire", row.acquire)
                waiting = [partial(self._wait, str(each.exporter and each.exporter.name), queue) for each in held]
                began = time.monotonic()
                self._all(pool, waiting if is_last else [], row, "in the queue", [])
                row.rates = self._client.rates(began, began + queue)
                self._all(pool, [partial(self._release, each) for each in held], row, "to release", row.release)
        row.memory_mib = resident_mib(self._lab.pid)
        return row

    def close(self) -> None:
        """End what was started beside the leases."""
        self._connector.close()

    def _all(
        self, pool: ThreadPoolExecutor, jobs: Sequence[Callable[[], T]], row: Row, what: str, times: list[float]
    ) -> list[T]:
        """Do all jobs at the same moment; note how long each took, and how many calls that were for each lease."""
        barrier, before = threading.Barrier(max(1, len(jobs))), self._client.calls

        def timed(job: Callable[[], T]) -> T:
            barrier.wait()
            began = time.perf_counter()
            result = job()
            times.append(time.perf_counter() - began)
            return result

        results = list(pool.map(timed, jobs))
        row.calls.setdefault(what, []).extend([(self._client.calls - before) / len(jobs)] if jobs else [])
        return results

    def _acquire(self) -> ManagedLease:
        (held,) = obtain_all([Member(Wanted(role="dut", selector="board=scale"), self._leases, Choice())])
        held.prepare()
        return held

    def _wait(self, exporter: str, patience: float) -> None:
        wanted, request = self._leases.request_for(Wanted(role="dut", exporter=exporter))
        held = self._leases.new(wanted, request, since=time.monotonic())
        if held.obtain(patience=patience):
            raise RuntimeError(f"{exporter} was leased twice")
        held.release(is_urgent=True)

    def _release(self, held: ManagedLease) -> None:
        self._leases.drop(held)
        if held.failure:
            raise RuntimeError(held.failure)


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def table(rows: Sequence[Row], queue: float) -> Iterator[str]:
    """Yield the lines of a table; in brackets how many times the first row's figure it is."""
    heads = ["leases", "acquire p50", "p99", "release p50", "p99"]
    heads += ["RPCs a lease to acquire", f"in {queue:g} s of queue", "to release", "lab memory"]
    yield "| " + " | ".join(heads) + " |"
    yield "| --- " * len(heads) + "|"
    for row in rows:
        cells = [str(row.leases)]
        for name in ("acquire", "release"):
            for percent in (50, 99):
                now, first = (percentile(getattr(each, name), percent) for each in (row, rows[0]))
                cells.append(f"{now * 1000:.0f} ms ({now / first:.1f} x)")
        cells += [f"{mean(row.calls[what]):.1f}" for what in ("to acquire", "in the queue", "to release")]
        yield "| " + " | ".join([*cells, f"{row.memory_mib:.0f} MiB"]) + " |"


def percentile(times: Sequence[float], percent: int) -> float:
    """Return the time that so many per cent stay below."""
    return quantiles(times, n=100, method="inclusive")[percent - 1] if len(times) > 1 else times[0]


def main() -> None:
    """Measure each number of leases, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporters", type=int, default=200)
    parser.add_argument("--leases", default="1,10,50,200", help="How many at once, one row each")
    parser.add_argument("--queue", type=float, default=10.0, help="Seconds for which as many again wait")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(Path(name), args.exporters) as lab:
        idle = resident_mib(lab.pid)
        with CountingClient.from_config(lab.client_config) as client:
            scale = Scale(lab, client)
            scale.measure(1, 0.1)  # opens the channel
            rows = [scale.measure(int(leases), args.queue) for leases in args.leases.split(",")]
            scale.close()
    print("\n".join(table(rows, args.queue)))
    for row in rows:
        if row.rates:
            rates = ", ".join(f"{rate:.1f}" for rate in row.rates)
            print(f"\n{row.leases} waiting leases ask so many times a second, minute by minute: {rates}")
    print(f"\nThe lab with {args.exporters} idle exporters: {idle:.0f} MiB.")


if __name__ == "__main__":
    main()

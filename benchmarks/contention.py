"""
Two pytest processes that need the same two boards together, over and over, each asking for them in the other order.

Every round gives the boards back and acquires both anew. It fails if a round passes its deadline, or if one process has
done less than half of its rounds when the other is through.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from pytest_jumpstarter.lab import Lab

WAIT = 60
BOARD = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: {name}, labels: {{board: {name}, alias: {alias}}}}}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
"""
# Selectors sort the other way round for the second process.
SELECTORS = (("board=a", "board=b"), ("alias=p-is-b", "alias=q-is-a"))
SUITE = """
import json, os, time
import pytest
from pytest_jumpstarter import device_fixture

other = device_fixture(selector={other!r}, scope={scope!r})

@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    start = time.monotonic()
    yield
    with open({log!r}, "a") as file:
        print(time.monotonic(), time.monotonic() - start, file=file)
"""
TEST = """
import pytest
@pytest.mark.parametrize("dut", [f"{first},!round-{{number}}" for number in range({rounds})], indirect=True)
def test_round(dut, other):
    assert {{dut.exporter.name, other.exporter.name}} == {{"a", "b"}}
    dut.power.on()
    other.power.off()
"""


def start(folder: Path, number: int, scope: str, rounds: int, config: Path) -> subprocess.Popen[bytes]:
    """Start one of the two processes."""
    suite = folder / f"{scope}-{number}"
    suite.mkdir()
    first, other = SELECTORS[number]
    (suite / "conftest.py").write_text(SUITE.format(other=other, scope=scope, log=str(suite / "log")))
    (suite / "test_it.py").write_text(TEST.format(first=first, rounds=rounds))
    options = ["-q", "-p", "no:cacheprovider", f"--jmp-client={config}", f"--jmp-wait={WAIT}s"]
    return subprocess.Popen([sys.executable, "-m", "pytest", "--rootdir", str(suite), *options], cwd=suite)


def compete(folder: Path, scope: str, rounds: int, config: Path) -> bool:
    """Let two processes compete, print how it went, and tell whether it went well."""
    began = time.monotonic()
    processes = [start(folder, number, scope, rounds, config) for number in (0, 1)]
    limit = began + 30 + rounds * WAIT
    try:
        codes = [process.wait(max(1.0, limit - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()
    logs = [(folder / f"{scope}-{number}" / "log").read_text().split() for number in (0, 1)]
    ends, waits = ([list(map(float, log[i::2])) for log in logs] for i in (0, 1))
    through = min(end[-1] for end in ends)
    done = [sum(moment <= through for moment in end) for end in ends]
    longest = max(map(max, waits))
    print(
        f"session and {scope}: {rounds} rounds each in {time.monotonic() - began:.1f}s; a set took "
        f"{median(waits[0]):.2f}s and {median(waits[1]):.2f}s (median), {longest:.2f}s at most; "
        f"when the first was through, rounds stood {done[0]} to {done[1]}"
    )
    # Who is first is the lab's choice: it looks at each waiting lease once a second, so a new lease may overtake it.
    return codes == [0, 0] and longest < WAIT


def main() -> int:
    """Run both crossings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boards = [BOARD.format(name="a", alias="q-is-a"), BOARD.format(name="b", alias="p-is-b")]
        (folder / "lab.yaml").write_text("---\n".join(boards))
        with Lab([folder / "lab.yaml"]) as lab:
            results = [compete(folder, scope, rounds, lab.client_config) for scope in ("session", "module")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

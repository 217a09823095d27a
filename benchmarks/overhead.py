"""
What the plugin adds to a trivial test that has a device for the whole session, beside a plain fixture of that scope.

Both suites run in processes of their own, in turns; each figure is CPU time of the process of pytest, from the end of
the first test to the end of the last, and the growth of its memory meanwhile.

    python benchmarks/overhead.py [--tests 10000] [--rounds 5] [--profile]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import document
from pytest_jumpstarter.lab import Lab

CONFTEST = """
import cProfile, gc, os, pstats, resource, time
import pytest

@pytest.fixture(scope="session")
def plain():
    return object()

class Meter:
    start = None

def pytest_runtest_logfinish():
    if Meter.start is None:  # the first test, which set the fixture up, is over
        gc.collect()
        Meter.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Meter.profile = cProfile.Profile()
        if "PROFILE" in os.environ:
            Meter.profile.enable()
        Meter.start = time.process_time()

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(nextitem):
    if nextitem is None:  # the device is not released yet
        spent = time.process_time() - Meter.start
        Meter.profile.disable()
        print("SPENT", spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - Meter.memory, flush=True)
        if "PROFILE" in os.environ:
            pstats.Stats(Meter.profile).sort_stats("tottime").print_stats(50)
"""
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(%d))
def test_it(%s, number):
    pass
"""


def measure(folder: Path, fixture: str, tests: int, *args: str, profile: bool = False) -> tuple[float, float]:
    """Return milliseconds of CPU and KiB for each test."""
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS % (tests, fixture))
    (folder / "pytest.ini").write_text("[pytest]\n")
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | ({"PROFILE": "1"} if profile else {})
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "pytest_jumpstarter.plugin"]
    done = subprocess.run([*command, *args], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    if profile:
        print(done.stdout.partition("SPENT")[2])
    spent, grown = done.stdout.rpartition("SPENT ")[2].split()[:2]
    return float(spent) * 1000 / tests, int(grown) / tests


def main() -> None:
    """Measure both in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="Show where the time goes, once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lab.yaml").write_text(document("bench"))
        with Lab([folder / "lab.yaml"]) as lab:
            ours = ("--jmp-selector=board=bench", f"--jmp-client={lab.client_config}")
            if args.profile:
                measure(folder / "device", "dut", args.tests, *ours, profile=True)
                return
            rows = [
                (measure(folder / "plain", "plain", args.tests), measure(folder / "device", "dut", args.tests, *ours))
                for _ in range(args.rounds)
            ]
    for number, unit in enumerate(("ms of CPU a test", "KiB a test")):
        plain, device = (statistics.median(row[side][number] for row in rows) for side in (0, 1))
        print(f"{unit}: plain fixture {plain:.3f}, device {device:.3f}, {device / plain:.2f} x")


if __name__ == "__main__":
    main()

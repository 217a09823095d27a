"""
pytest-xdist on a lab of 4 exporters: how well `-n auto` uses them, and that more workers than boards come to an end.

First 40 tests of 0.5 s with `-n auto`: 4 boards would take 5 s. Start-up is all that is not a test's: the time until
the first test begins, with processes, collection, imports and lease, and from the end of the last until the run is
over. Then, for each `--dist`, 8 workers on 2 of the boards. It fails if a run does, if workers shared a board, or if
the 40 tests took longer than 1.25 times the ideal.

    python benchmarks/workers.py [--tests 40] [--rounds 1] [--dist worksteal ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pytest_jumpstarter.lab import Lab

BOARDS = 4
SECONDS = 0.5
DISTS = ("load", "loadscope", "loadfile", "loadgroup", "worksteal", "each")
BOARD = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: board-{number}, labels: {{board: rack, half: h{half}}}}}
export:
  power: {{type: jumpstarter_driver_power.driver.MockPower}}
"""
# Several files, classes and groups: each --dist has something to share out.
SUITE = """
import os, time
import pytest

@pytest.mark.parametrize("number", range({tests}))
@pytest.mark.xdist_group("{group}")
def test_it(dut, worker_id, number):
    began = time.time()
    dut.power.on()
    time.sleep({seconds})
    with open(os.environ["LOG"], "a") as file:
        print(worker_id, dut.exporter.name, began, time.time(), file=file)
"""


class ShortErrors:
    """
    What one run did.

    Attributes:
        code: pytest's exit code.
        boards: The boards that each worker had.
        startup: Seconds that no test ran, at the beginning and at the end.
        busy: Seconds from the start of the first test to the end of the last.
        tests: How many ran.
    """

    def __init__(self, code: int, log: str, began: float, ended: float) -> None:
        lines = [line.split() for line in log.splitlines()]
        self.code = code
        self.tests = len(lines)
        self.boards: dict[str, set[str]] = defaultdict(set)
        for worker, board, _, _ in lines:
            self.boards[worker].add(board)
        first, last = min(float(line[2]) for line in lines), max(float(line[3]) for line in lines)
        self.startup = (first - began, ended - last)
        self.busy = last - first
        self.wall = ended - began


def run(folder: Path, config: Path, *args: str, tests: int, files: int, seconds: float) -> ShortErrors:
    """Run `tests` tests in `files` files."""
    suite = Path(tempfile.mkdtemp(dir=folder))
    for number in range(files):
        text = SUITE.format(tests=tests // files, seconds=seconds, group=f"group-{number}")
        (suite / f"test_{number}.py").write_text(text)
    log = suite / "log"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(suite)]
    command += [f"--jmp-client={config}", "--jmp-wait=5m", *args]
    began = time.time()
    environ = os.environ | {"LOG": str(log)}
    done = subprocess.run(command, cwd=suite, env=environ, capture_output=True, text=True, check=False)
    outcome = ShortErrors(done.returncode, log.read_text() if log.exists() else "", began, time.time())
    if outcome.code:
        print(done.stdout, done.stderr)
    return outcome


def spread(folder: Path, config: Path, tests: int) -> bool:
    """Measure how well `-n auto` uses the boards, and print it."""
    outcome = run(folder, config, "-nauto", "--jmp-selector=board=rack", tests=tests, files=1, seconds=SECONDS)
    ideal = tests * SECONDS / BOARDS
    before, after = outcome.startup
    used = len(set().union(*outcome.boards.values()))
    print(
        f"-n auto: {len(outcome.boards)} workers on {used} boards; {tests} tests of {SECONDS} s in "
        f"{outcome.busy:.2f} s, {outcome.busy / ideal:.2f} x the ideal {ideal:g} s; start-up "
        f"{before:.2f} s before and {after:.2f} s after; {outcome.wall:.2f} s in all"
    )
    alone = all(len(boards) == 1 for boards in outcome.boards.values())
    return outcome.code == 0 and alone and used == len(outcome.boards) == BOARDS and outcome.busy <= 1.25 * ideal


def crowd(folder: Path, config: Path, dists: Sequence[str]) -> bool:
    """Run 8 workers on 2 boards with each `--dist`, and print how long each took."""
    print("| --dist | 8 workers on 2 boards: 32 tests of 0.1 s | workers that had a board |\n| --- | --- | --- |")
    codes = []
    for dist in dists:
        args = ("-n8", f"--dist={dist}", "--jmp-selector=half=h0")
        outcome = run(folder, config, *args, tests=32, files=16, seconds=0.1)
        print(f"| {dist} | {outcome.wall:.1f} s | {len(outcome.boards)} |", flush=True)
        codes.append(outcome.code == 0 and outcome.tests == (32 * 8 if dist == "each" else 32))
    return all(codes)


def main() -> int:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1, help="How often the 40 tests are run")
    parser.add_argument("--dist", nargs="*", default=DISTS, choices=DISTS, help="With which 8 workers share 2 boards")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "lab.yaml"
        file.write_text("---\n".join(BOARD.format(number=number, half=number % 2) for number in range(BOARDS)))
        with Lab([file]) as lab:
            results = [spread(folder, lab.client_config, args.tests) for _ in range(args.rounds)]
            results.append(crowd(folder, lab.client_config, args.dist))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

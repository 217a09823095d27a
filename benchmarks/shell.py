"""
What `Shell.run` costs, and that no command gets the answer of another one.

    python benchmarks/shell.py [--runs 10000] [--noisy 2000] [--rounds 5]

On the console of a shell behind the embedded lab: many commands, each with an output and an exit code of its own; then
as many while messages of the kernel are printed at random positions; then `run` beside a bare `sendline` and `expect`,
turn and turn about. Exit code 1 where an output or an exit code is wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script

from benchmarks.side import ours
from pytest_jumpstarter import CommandTimeout, ConsoleGarbled, Shell
from pytest_jumpstarter.lab import Lab

EXPORT = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: shell, labels: {board: shell}}
export:
  console: {type: drivers_for_shell.Program, config: {command: [sh, -i]}}
"""
PROMPT = r"root@board:\S+# "
CODES = (0, 1, 7, 12, 127, 130, 255)


@contextmanager
def served() -> Iterator[Lab]:
    """Serve a board with a shell on its console."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "lab.yaml")
        file.write_text(EXPORT)
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent / "tests")  # where the driver is
        with Lab([file]) as lab:
            yield lab


def count(shell: Shell, runs: int) -> Counter[str]:
    """Run so many commands, and count how they ended."""
    found: Counter[str] = Counter()
    chance = random.Random(1)
    for number in range(runs):
        code = chance.choice(CODES)
        try:
            result = shell.run(f"echo {number}; (exit {code})", check=False)
        except (ConsoleGarbled, CommandTimeout) as exc:
            found[type(exc).__name__] += 1
            continue
        found["right" if result.exited == code else "WRONG EXIT CODE"] += 1
        if result.stdout != str(number):  # a message of the kernel broke into it
            found["broken" if "] usb " in result.stdout else "WRONG OUTPUT"] += 1
    return found


def time_of_run(shell: Shell, runs: int) -> float:
    """Return the milliseconds of a command by `run`."""
    start = time.perf_counter()
    for number in range(runs):
        shell.run(f"echo {number}")
    return (time.perf_counter() - start) / runs * 1000


def time_of_expect(shell: Shell, runs: int) -> float:
    """Return the milliseconds of a command by `sendline` and `expect`, with its exit code."""
    start = time.perf_counter()
    for number in range(runs):
        shell.console.sendline(f"echo {number}; echo =$?")
        shell.console.expect(rf"\n{number}\r\n=(\d+)\r\n{PROMPT}")
    return (time.perf_counter() - start) / runs * 1000


def measure(dut: Any, args: argparse.Namespace) -> bool:
    """Measure, print the figures, and return whether all answers were right."""
    shell = Shell(dut.console(), prompt=PROMPT).login()
    clean = count(shell, args.runs)
    print(f"{args.runs} commands: {dict(clean)}")
    dut.drivers["console"].call("set_faults", 1, 0, 0, 0.004, 0)
    noisy = count(shell, args.noisy)
    dut.drivers["console"].call("set_faults", 1, 0, 0, 0, 0)
    print(f"{args.noisy} commands amid messages of the kernel: {dict(noisy)}")
    shell.login()
    pairs = [(time_of_run(shell, 200), time_of_expect(shell, 200)) for _ in range(args.rounds)]
    ratios = sorted(run / bare for run, bare in pairs)
    run, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"run beside sendline and expect: {statistics.median(ratios):.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"{run:.2f} ms and {bare:.2f}"
    )
    return clean["right"] == args.runs and not any("WRONG" in name for name in [*clean, *noisy])


def main() -> None:
    """Measure, and tell by the exit code whether all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--noisy", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with served() as lab, ours(str(lab.client_config), "shell") as dut:
        is_right = measure(dut, args)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()

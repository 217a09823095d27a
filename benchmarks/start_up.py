"""
What a suite without devices pays: the import of the plugin, in fresh processes, beside the same without it.

    python benchmarks/start_up.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

IMPORT = """
import time, pytest, sys
before = len(sys.modules)
start = time.perf_counter()
import pytest_jumpstarter.plugin
print((time.perf_counter() - start) * 1000, len(sys.modules) - before)
"""


def import_once() -> list[str]:
    """Return the milliseconds and the number of modules of one import in a fresh process."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", IMPORT]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environ).stdout.split()


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    outputs = [import_once() for _ in range(rounds + 1)][1:]  # the first writes the byte code
    times = [float(time_ms) for time_ms, _ in outputs]
    print(
        f"import of the plugin: median {statistics.median(times):.2f} ms "
        f"(min {min(times):.2f}, max {max(times):.2f}), {outputs[0][1]} modules"
    )


if __name__ == "__main__":
    main()

"""
For how long a suite holds its board: 30 s of tests without a device and 5 s with one, written so that they alternate.

It fails if the lease is held for 6 s or more, or if the first test with a device waits 0.4 s or more for it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_jumpstarter.lab import Lab

LAB = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: a, labels: {board: a}}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
"""
CONFTEST = """
import time

taken = []

def pytest_jumpstarter_lease_acquired(lease):
    taken.append(time.monotonic())

def pytest_jumpstarter_lease_released(lease):
    print(f"\\nHELD {time.monotonic() - taken[-1]:.2f}")

def pytest_runtest_logreport(report):
    if report.when == "setup" and "with_device" in report.nodeid:
        print(f"\\nDEVICE {report.duration:.2f}")
"""
WITH = "import time\ndef test_with_device(dut):\n    dut.power.on()\n    time.sleep(1)\n"
WITHOUT = """
import time
import pytest
@pytest.mark.parametrize("number", range(6))
def test_it(number):
    time.sleep(1)
"""


def main() -> int:
    """Run the suite once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lab.yaml").write_text(LAB)
        suite = folder / "suite"
        suite.mkdir()
        (suite / "conftest.py").write_text(CONFTEST)
        for number in range(5):
            (suite / f"test_{number}a.py").write_text(WITH)
            (suite / f"test_{number}b.py").write_text(WITHOUT)
        with Lab([folder / "lab.yaml"]) as lab:
            options = ["-s", "-q", "-p", "no:cacheprovider", f"--jmp-client={lab.client_config}"]
            command = [sys.executable, "-m", "pytest", "--rootdir", str(suite), *options, "--jmp-selector=board=a"]
            run = subprocess.run(command, cwd=suite, check=True, capture_output=True, text=True)
    words = [line.split() for line in run.stdout.splitlines()]
    [held] = [float(word[1]) for word in words if word[:1] == ["HELD"]]
    first = next(float(word[1]) for word in words if word[:1] == ["DEVICE"])
    print(f"lease held for {held:.2f}s; the first test with a device had it after {first:.2f}s")
    return 0 if held < 6 and first < 0.4 else 1


if __name__ == "__main__":
    sys.exit(main())

"""Whole pytest runs, in processes of their own, timed from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

OURS = """
def test_power(dut):
    dut.power.on()
    moment("test ends")
"""

# `jumpstarter-testing` leases only where `env()` raises RuntimeError, which it does no more: that is mended here.
MENDED = """
import contextlib
import jumpstarter_testing.pytest as theirs
from jumpstarter.common.exceptions import EnvironmentVariableNotSetError

env = theirs.env

@contextlib.contextmanager
def mended():
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(env())
        except EnvironmentVariableNotSetError as error:
            raise RuntimeError from error
        yield client

theirs.env = mended
"""

THEIRS = """
from jumpstarter_testing.pytest import JumpstarterTest

class TestPower(JumpstarterTest):
    selector = "board=%s"

    def test_power(self, client):
        client.power.on()
        moment("test ends")
"""

OUR_CLASS = """
class Test%d:
    def test_power(self, dut):
        dut.power.on()
"""

THEIR_CLASS = """
class Test%d(JumpstarterTest):
    selector = "board=%s"

    def test_power(self, client):
        client.power.on()
"""

# Each moment is printed when it comes; the clock is the same in every process.
MOMENTS = """
import builtins, time

def moment(name):
    print("MOMENT", name, time.monotonic(), sep="|", flush=True)

builtins.moment = moment
moment("conftest")

def pytest_runtestloop(): moment("collected")
"""

STAGES = """
def pytest_jumpstarter_lease_request(): moment("lab ready")
def pytest_jumpstarter_lease_acquired(): moment("lease acquired")
def pytest_jumpstarter_device_ready(): moment("device connected")
"""


class Suite:
    """
    A folder with a suite.

    Args:
        folder: Where it is written; made if it is not there.
        tests: Its one module of tests.
        conftest: What else its conftest holds.
    """

    def __init__(self, folder: Path, tests: str, *, conftest: str = "") -> None:
        folder.mkdir(exist_ok=True)
        (folder / "conftest.py").write_text(f"import sys\n{MOMENTS}\n{conftest}")
        (folder / "test_it.py").write_text(tests)
        (folder / "pytest.ini").write_text("[pytest]\n")
        self._folder = folder

    def run(self, *args: str, config_home: Path | None = None) -> tuple[float, dict[str, float]]:
        """
        Run it, and return the seconds until the process was gone and those until each moment.

        Raises:
            RuntimeError: It did not pass.
        """
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("JMP_", "JUMPSTARTER_"))}
        environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        if config_home is not None:
            environ["JMP_CLIENT_CONFIG_HOME"] = str(config_home)
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *args],
            cwd=self._folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        taken = time.monotonic() - start
        if done.returncode:
            raise RuntimeError(f"a suite in {self._folder} failed:\n{done.stdout}")
        lines = [line.partition("MOMENT|")[2].split("|") for line in done.stdout.splitlines() if "MOMENT|" in line]
        return taken, {name: float(text) - start for name, text in lines}


PLUGIN: Sequence[str] = ("-p", "pytest_jumpstarter.plugin")


class Pair:
    """The same suite for both sides: one test, or a number of classes with one test each."""

    def __init__(self, folder: Path, board: str, *, classes: int = 0) -> None:
        ours = "".join(OUR_CLASS % number for number in range(classes)) or OURS
        head = "from jumpstarter_testing.pytest import JumpstarterTest\n"
        theirs = "".join(THEIR_CLASS % (number, board) for number in range(classes))
        self._ours = Suite(folder / f"ours-{board}-{classes}", ours)
        self._theirs = Suite(
            folder / f"theirs-{board}-{classes}", head + theirs if theirs else THEIRS % board, conftest=MENDED
        )
        self._board = board

    def run(self, side: str, config_home: Path) -> tuple[float, dict[str, float]]:
        """Run the suite of one side."""
        if side == "theirs":
            return self._theirs.run(config_home=config_home)
        return self._ours.run(*PLUGIN, f"--jmp-selector=board={self._board}", config_home=config_home)


def cold_lab(folder: Path, lab_file: Path) -> dict[str, float]:
    """Return the seconds until each moment of a run that starts an embedded lab."""
    suite = Suite(folder / "cold", OURS.replace("dut.power.on()", 'moment("first test body")'), conftest=STAGES)
    _, moments = suite.run(*PLUGIN, f"--jmp-lab={lab_file}", "--jmp-selector=board=bench")
    del moments["test ends"]
    return moments

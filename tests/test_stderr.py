"""What the libraries under this plugin would write to stderr, beside the output of tests: nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import LAB_FILE
from runs import part

SUITE = """
    from pytest_jumpstarter import device_fixture

    gateway = device_fixture(selector="kind=gateway")

    def test_one(dut, console):
        dut.power.cycle()
        console.expect("login:")

    def test_two(dut, gateway):
        gateway.power.on()
        assert gateway is dut

    def test_lost(dut, jumpstarter):
        jumpstarter.client.delete_lease(dut.lease.name)
        while True:
            dut.power.on()
"""


@pytest.mark.parametrize(
    ("whose", "early", "capture"), part(["others", "own"], ["", "import grpc"], ["-s", "--capture=fd"])
)
def test_nothing_on_stderr(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, whose: str, early: str, capture: str
) -> None:
    """Two leases, a failure and a loss: no process of the run, labs included, writes a line of its own."""
    for name in ("GRPC_VERBOSITY", "GRPC_TRACE"):
        monkeypatch.delenv(name, raising=False)
    if whose == "own":
        suite.path.joinpath("lab.yaml").write_text(LAB_FILE)
        suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = lab.yaml\n")
    suite.makepyfile(early=early, test_it=SUITE)
    suite.syspathinsert()
    command = [sys.executable, "-m", "pytest", "-p", "early", "-p", "no:cacheprovider", capture]
    done = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=120, check=False)
    assert "1 failed, 1 passed, 1 device error" in done.stdout, done.stdout
    assert done.stderr == ""
    assert "Captured stderr" not in done.stdout

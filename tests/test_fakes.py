"""Tests that replace the clock or the file system: boards, evidence and times are as without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import running

from pytest_jumpstarter.client.v1 import Lease

ActiveLeases = Callable[[], list[Lease]]

USE = """
    dut.power.cycle()
    console.expect("login:")
    with pytest.raises(pexpect.TIMEOUT): console.expect("never", timeout=0.2)
    console.sendline("root")
    console.expect("Password:|#")
    assert not "reached"
"""
MOCKS = """
import builtins, io, os, pathlib, tempfile, time
import pexpect, pytest

def refuse(*args, **kwargs): raise AssertionError("a mock was called")

@pytest.mark.parametrize("names", [
    ("pathlib.Path.open", "pathlib.Path.mkdir", "pathlib.Path.write_text", "pathlib.Path.write_bytes"),
    ("builtins.open", "io.open", "tempfile.TemporaryFile", "tempfile.mkdtemp"),
    ("os.open", "os.read", "os.write", "os.mkdir", "os.fstat"),
    ("time.sleep", "time.time", "time.monotonic"),
], ids=["pathlib", "open", "os", "time"])
def test_mocks(dut, console, monkeypatch, names):
    for name in names:
        monkeypatch.setattr(name, (lambda *args: 5.0) if name.startswith("time.") else refuse)
"""


def kept(suite: pytest.Pytester) -> list[Path]:
    """Return the folders of evidence, each of which is complete and has the time of this run."""
    folders = sorted((suite.path / "kept").iterdir())
    for folder in folders:
        assert "login:" in (folder / "console.log").read_text()
        assert abs(json.loads((folder / "test.json").read_text())["time"] - time.time()) < 3600
        assert not (folder / "notes.txt").exists()
    return folders


def test_mocks(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Mocks of `open`, `os`, `pathlib` and `time` reach neither the device nor its evidence."""
    suite.makepyfile(MOCKS + USE)
    with running(suite, "--jmp-artifacts=kept", "--jmp-call-timeout=60s") as process:
        output = process.communicate(timeout=90)[0]
    assert "4 failed" in output, output
    assert output.count('assert not "reached"') >= 4 or output.count("assert not 'reached'") >= 4, output
    assert "INTERNALERROR" not in output
    assert len(kept(suite)) == 4
    assert active_leases() == []


FAKES = (
    """
import pexpect, pytest
from freezegun import freeze_time
import time_machine

def test_first_in_a_fake(fs, dut, console):
"""
    + USE
    + """
def test_frozen(dut, console):
    with freeze_time("2012-01-01"):
"""
    + USE.replace("\n    ", "\n        ")
    + """
def test_travelling(dut, console):
    with time_machine.travel("2012-01-01", tick=False):
"""
    + USE.replace("\n    ", "\n        ")
    + """
def test_far(dut, console):
    with time_machine.travel("2101-01-01"):
"""
    + USE.replace("\n    ", "\n        ")
)


def test_libraries(suite: pytest.Pytester, neighbours: str, active_leases: ActiveLeases) -> None:
    """So do pyfakefs, freezegun and time-machine, also if the first device is requested inside."""
    suite.makepyfile(FAKES)
    args = [
        "--jmp-artifacts=kept",
        "--jmp-ttl=5s",
        "--jmp-call-timeout=60s",
        "--jmp-report=run.json",
        "-p",
        "no:randomly",
    ]
    finished = subprocess.run(
        [neighbours, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:pytest-retry", *args],
        cwd=suite.path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "4 failed" in finished.stdout, finished.stdout
    assert "INTERNALERROR" not in finished.stdout
    assert not re.search("device errors? in", finished.stdout)
    assert len(kept(suite)) == 4
    [exporter] = json.loads((suite.path / "run.json").read_text())["exporters"]
    assert exporter["held_seconds"] > 0
    assert active_leases() == []


def test_no_channel_has_a_clock_that_a_test_can_replace() -> None:
    """The deadlines of channels come from the real clock, also in modules that gRPC imports later."""
    source = """
import sys, time
from pytest_jumpstarter.host.grpc_import import import_grpc
import_grpc()
import grpc
grpc.insecure_channel("127.0.0.1:1").close()
print([name for name, module in sys.modules.items() if "grpc" in name and getattr(module, "time", None) is time])
"""
    finished = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout == "[]\n"

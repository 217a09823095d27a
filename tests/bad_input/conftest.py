"""What bad input is made of, and the watch that nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab

DRIVERS = """
from pathlib import Path
from jumpstarter.driver import Driver
from jumpstarter_driver_power.driver import MockPower

class Raises(Driver):
    @classmethod
    def client(cls):
        return "jumpstarter_driver_power.client.PowerClient"

    def __post_init__(self):
        super().__post_init__()
        with Path(__file__).with_name("starts").open("a") as file:
            file.write("x")
        raise OSError("no such port: /dev/ttyUSB7")

class Nowhere(MockPower):
    @classmethod
    def client(cls):
        return "jumpstarter_driver_nowhere.client.NowhereClient"
"""


@pytest.fixture(autouse=True)
def _nothing_is_left(lab: Lab, client: Client) -> Iterator[None]:
    """Hold every test of this file to it: no lease is active or pending, and no thread of ours goes on."""
    yield
    assert [lease for lease in client.list_leases() if lease.name.startswith("pj-")] == []
    for thread in threading.enumerate():
        if thread.name == "jumpstarter-warm-up":
            thread.join(timeout=30)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("jumpstarter-")] == []


@pytest.fixture
def config(lab: Lab, tmp_path: Path) -> Callable[..., Path]:
    """Return what writes a client config for the shared lab with some fields changed; None leaves one out."""

    def write(**changes: object) -> Path:
        fields = yaml.safe_load(lab.client_config.read_text()) | changes
        file = tmp_path / "client.yaml"
        file.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value is not None}))
        return file

    return write


@pytest.fixture
def lab_file(suite: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what writes a lab file; it may name the drivers in `bad_drivers`."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")
    (tmp_path / "bad_drivers.py").write_text(DRIVERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def write(text: str) -> Path:
        file = tmp_path / "lab.yaml"
        file.write_text(text)
        return file

    return write

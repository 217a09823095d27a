"""A bench of shells on the consoles of a real exporter, for the tests of `Shell`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import exporter_document, serve_test_drivers

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.shell import Shell
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.from_controller import ControllerSource
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms

PROMPT = r"root@board:\S+# "


@contextmanager
def bench_of(export: str, folder: Path) -> Iterator[Device]:
    """Lease an exporter with these drivers as a run does."""
    with ExitStack() as stack:
        lab = stack.enter_context(serve_test_drivers(folder, exporter_document("bench-1", "board: shells", export)))
        config = ClientConfig.load(lab.client_config, environ={})
        client = stack.enter_context(Client.from_config(config))
        source = ControllerSource(client, config, events=Events(), ids=LeaseIds(), terms=Terms(), healths={})
        stack.callback(source.close)
        yield stack.enter_context(source.device(Wanted(role="dut", exporter="bench-1")))


def program(name: str, *command: str, more: str = "") -> str:
    """Return the driver of a program on a serial port."""
    if shutil.which(command[0]) is None:
        return ""  # the test that wants it is skipped
    words = ", ".join(f"'{word}'" for word in command)
    return f"  {name}: {{type: drivers_for_shell.Program, config: {{command: [{words}]{more}}}}}\n"


def logged_in(device: Device, path: str, send_delay: float = 0.0) -> Shell:
    """Return a shell of this bench at its prompt."""
    if path not in device.drivers:
        pytest.skip(f"no program for {path}: apt install bash dash busybox-static")
    return Shell(device.console(path), prompt=PROMPT, timeout=20, send_delay=send_delay).login()

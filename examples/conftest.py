"""Fixtures of this suite: a second device, and a board that has booted."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import Console, Device, device_fixture

collect_ignore = ["qemu"]  # a suite of its own, with a lab of its own

gateway = device_fixture(selector="kind=gateway")


@pytest.fixture(scope="module")
def booted(dut: Device) -> Device:
    """Return the device under test, booted and logged in, once for each module."""
    console = dut.console()
    dut.power.off()
    dut.power.on()
    log_in(console)
    return dut


def log_in(console: Console) -> None:
    """Wait for the login prompt, and leave the shell's prompt behind."""
    console.expect("login: ")
    console.sendline("root")
    console.expect("# ")

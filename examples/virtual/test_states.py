"""Tests that stand on states: the plugin brings the board there, and runs those on one state together."""

from __future__ import annotations

import re

import pytest

from pytest_jumpstarter import Console, Device, PlainShell


def test_version(shell: PlainShell) -> None:
    """The board reports the version that it has booted."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", shell.run("version").stdout)


def test_no_current_when_off(off: None, dut: Device) -> None:  # noqa: ARG001 - the state of the board
    """A board without power takes no current."""
    assert next(dut.power.read()).current == 0


@pytest.mark.jumpstarter(spoils=True)
def test_guest(login: Console) -> None:
    """A guest gets a shell; the board is not at its login prompt then, so the test spoils its state."""
    login.sendline("guest")
    login.expect_exact("board:~# ")


@pytest.mark.usefixtures("led")
def test_led(shell: PlainShell) -> None:
    """The LED is on while the fixture is."""
    assert shell.run("led").stdout == "led is on"


@pytest.mark.jumpstarter(spoils=True)
def test_reboot(shell: PlainShell) -> None:
    """The board boots again; it is not logged in then, so the test spoils its state."""
    shell.console.sendline("reboot")
    shell.console.expect("login: ")


def test_unknown_command(shell: PlainShell) -> None:
    """The shell says so when it does not know a command."""
    assert "not found" in shell.run("frobnicate").stdout


def test_walk(dut: Device) -> None:
    """A test may walk through several states itself."""
    dut.state.reach("off")
    assert dut.state.reach("shell").run("led").stdout == "led is off"

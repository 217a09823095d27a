"""Power and console: the least a board test does."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import Console, Device


def test_boots(dut: Device, console: Console) -> None:
    """A board that gets power reaches its login prompt."""
    dut.power.cycle()
    console.expect("login: ")


@pytest.mark.usefixtures("booted")
def test_shell_answers(console: Console) -> None:
    """The booted board's shell runs a command."""
    console.sendline("version")
    console.expect(r"\d+\.\d+\.\d+")
    console.expect("# ")


@pytest.mark.usefixtures("booted")
def test_unknown_command(console: Console) -> None:
    """The shell says so when it does not know a command."""
    console.sendline("frobnicate")
    console.expect("frobnicate: not found")

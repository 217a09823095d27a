"""Power and console: the least a board test does."""

from __future__ import annotations

from pytest_jumpstarter import Console, Device


def test_boots(dut: Device, console: Console) -> None:
    """A board that gets power reaches its login prompt."""
    dut.power.cycle()
    console.expect("login: ")


def test_shell_answers(booted: Device, console: Console) -> None:
    """The booted board's shell runs a command."""
    console.sendline("version")
    console.expect(r"version (\S+)")
    console.sendline("led on")
    console.expect("# ")


def test_unknown_command(booted: Device, console: Console) -> None:
    """The shell says so when it does not know a command."""
    console.sendline("frobnicate")
    console.expect("frobnicate: not found")

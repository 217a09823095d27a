"""Power and console: the least a board test does."""

from __future__ import annotations

from pytest_jumpstarter import Console, Device


def test_boots(dut: Device, console: Console) -> None:
    """A board that gets power reaches its login prompt."""
    dut.power.cycle()
    console.expect("login: ")

"""The states of the virtual board: off, at the login prompt, logged in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_jumpstarter import Console, Device, PlainShell, board_state

PROMPT = "board:~# "


@board_state
def off(dut: Device) -> None:
    """No power."""
    dut.power.off()


@board_state(after=off, tries=2)
def login(dut: Device) -> Console:
    """At the login prompt."""
    dut.power.on()
    dut.console().expect("login: ")
    return dut.console()


@board_state(after=login, tries=2)
def shell(dut: Device) -> PlainShell:
    """Log in as root."""
    dut.console().sendline("root")
    dut.console().expect_exact(PROMPT)
    return PlainShell(dut.console(), prompt=PROMPT)


@pytest.fixture(scope="module")
def led(shell: PlainShell) -> Iterator[None]:
    """Switch the LED on; it is switched off before the board leaves its state."""
    shell.run("led on")
    yield
    shell.run("led off")

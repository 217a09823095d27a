"""Two boards, and the states that they are in."""

from __future__ import annotations

from boards import Gateway, Product

from pytest_jumpstarter import Shell, board_state, device_fixture

dut = device_fixture(Product, selector="kind=dut")
gateway = device_fixture(Gateway, selector="kind=gateway")


@board_state
def off(dut: Gateway) -> None:
    """Switch the power off."""
    dut.power.off()


@board_state(after=off)
def linux(dut: Gateway) -> Shell:
    """Boot, and log in as root."""
    dut.power.on()
    return Shell(dut.console(), prompt=r"root@board:\S+# ", user="root", password="s3cr3t").login()


gateway_linux = linux.of("gateway")

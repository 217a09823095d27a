"""Two devices in one test: each fixture is a role with a lease of its own."""

from __future__ import annotations

from pytest_jumpstarter import Device


def test_both_boot(dut: Device, gateway: Device) -> None:
    """The device under test and the gateway boot side by side."""
    assert dut.exporter.name != gateway.exporter.name
    for device in (dut, gateway):
        device.power.off()
        device.power.on()
    for device in (dut, gateway):
        device.console().expect("login: ")

"""How long the board takes to boot, and what it does with a new image."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from boards import Product

from pytest_jumpstarter import Console, MetricRecorder


@pytest.mark.usefixtures("off")
@pytest.mark.jumpstarter(spoils=True)  # it leaves the state off behind
def test_boot_time(dut: Product, console: Console, record_metric: MetricRecorder) -> None:
    """The board boots in time; the times are in all reports."""
    console.discard()
    start = time.monotonic()
    dut.power.on()
    console.expect("Linux version")
    record_metric("kernel_time", time.monotonic() - start, unit="s")
    console.expect("login: ")
    record_metric("boot_time", time.monotonic() - start, unit="s", max=5)


@pytest.mark.usefixtures("off")
def test_flash(dut: Product, tmp_path: Path) -> None:
    """The board takes an image of a megabyte, which a run flashes once for each lease."""
    image = tmp_path / "firmware.bin"
    image.write_bytes(b"x" * 1_000_000)
    assert dut.flash(image)
    assert not dut.flash(image)  # it is there

"""Flash an image and boot it."""

from __future__ import annotations

from pathlib import Path

from pytest_jumpstarter import Console, Device


def test_what_was_flashed_boots(dut: Device, console: Console, tmp_path: Path) -> None:
    """The version in the image is the version that the board reports after it booted."""
    image = tmp_path / "image.bin"
    image.write_text("2.0.1\n" + "payload " * 1000)
    dut.power.off()
    dut.storage.flash(str(image))
    dut.power.on()
    console.expect("2.0.1")
    console.expect("login: ")

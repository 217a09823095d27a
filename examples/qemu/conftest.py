"""A board at U-Boot's prompt; where QEMU or U-Boot is missing, the tests are skipped with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from uboot import UBoot

from pytest_jumpstarter import Device

PACKAGES = "apt install --no-install-recommends qemu-system-arm qemu-utils ipxe-qemu u-boot-qemu"
DRIVERS = "pip install jumpstarter-driver-qemu jumpstarter-driver-uboot"


def missing() -> str:
    """Return what this machine lacks, and how to get it; empty if nothing."""
    programs = [name for name in ("qemu-system-aarch64", "qemu-img") if shutil.which(name) is None]
    files = [
        name
        for name in ("/usr/lib/u-boot/qemu_arm64/u-boot.bin", "/usr/lib/ipxe/qemu/efi-virtio.rom")
        if not Path(name).exists()
    ]
    modules = [name for name in ("jumpstarter_driver_qemu", "jumpstarter_driver_uboot") if find_spec(name) is None]
    cures = ([PACKAGES] if programs or files else []) + ([DRIVERS] if modules else [])
    return f"{', '.join(programs + files + modules)} not found: {'; '.join(cures)}" if cures else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests where they cannot run."""
    if reason := missing():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def uboot(dut: Device) -> Iterator[UBoot]:
    """Return a board that was switched on just now and waits at U-Boot's prompt."""
    board = UBoot(dut)
    board.on()
    yield board
    board.off()

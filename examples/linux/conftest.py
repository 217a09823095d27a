"""The states of a board with Linux on its disk; where something is missing, the tests are skipped."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from image import PASSWORD, SEARCH_PATH, build

from pytest_jumpstarter import Device, Shell, UBootShell, board_state

PROMPT = r"root@board:\S+# "
PROGRAMS = ("qemu-system-aarch64", "qemu-img", "apt-get", "dpkg-deb", "mke2fs")
FILES = ("/usr/lib/u-boot/qemu_arm64/u-boot.bin", "/usr/lib/ipxe/qemu/efi-virtio.rom")
CURE = (
    "on Debian: apt install --no-install-recommends qemu-system-arm qemu-utils ipxe-qemu u-boot-qemu; "
    "pip install jumpstarter-driver-qemu"
)


def missing() -> str:
    """Return what this machine lacks, and how to get it; empty if nothing."""
    found = [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]
    found += [name for name in FILES if not Path(name).exists()]
    found += [name for name in ("jumpstarter_driver_qemu",) if find_spec(name) is None]
    return f"{', '.join(found)} not found; {CURE}" if found else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests where they cannot run."""
    if reason := missing():
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def disk() -> Path:
    """Return the disk image with Linux, which the first run builds."""
    image: Path = build(Path(__file__).parent / "build")
    return image


@pytest.fixture(scope="session")
def flashed(dut: Device, disk: Path) -> None:
    """Write Linux to the disk of the board, once for each run."""
    dut.storage.flash(disk, target="root")


@board_state
def off(dut: Device, flashed: None) -> None:  # noqa: ARG001 - so that it is there before the first boot
    """No power, and Linux on the disk."""
    dut.power.off()


@board_state(after=off, tries=2)
def uboot(dut: Device) -> UBootShell:
    """At the prompt of U-Boot."""
    dut.power.on()
    return UBootShell(dut.console(), timeout=60).login()


@board_state(after=(uboot, off), tries=2)
def linux(dut: Device) -> Shell:
    """Log in as root."""
    match dut.state.current:
        case "uboot":
            dut.console().sendline("boot")
        case "off":
            dut.power.on()
    return Shell(dut.console(), prompt=PROMPT, user="root", password=PASSWORD, timeout=120).login()

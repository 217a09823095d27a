"""U-Boot on an ARM64 machine: what one tests of a boot loader, over its serial console."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from random import Random
from typing import Any

from uboot import UBoot

from pytest_jumpstarter import Device

SECTOR_BYTES = 512
LOADED, WRITTEN = 0x4200_0000, 0x4300_0000  # memory that U-Boot leaves alone


def test_boots(uboot: UBoot) -> None:
    """The board boots to the prompt, with the memory that its lab file gives it."""
    assert uboot.run("version").startswith("U-Boot 20")
    assert "-> size     = 0x0000000010000000" in uboot.run("bdinfo")


def test_environment(uboot: UBoot) -> None:
    """A variable can be set and deleted; one that is not saved is lost at a reset."""
    uboot.run("setenv answer 42")
    assert uboot.run("printenv answer") == "answer=42"
    uboot.run("setenv answer")
    assert "not defined" in uboot.run("printenv answer")
    uboot.run("setenv answer 42")
    uboot.reset()
    assert "not defined" in uboot.run("printenv answer")


def test_memory(uboot: UBoot) -> None:
    """A MiB of random bytes reads back as it was written, and a single wrong bit shows."""
    uboot.run(f"random {LOADED:x} 100000")
    uboot.run(f"cp.b {LOADED:x} {WRITTEN:x} 100000")
    assert "1048576 byte(s) were the same" in uboot.run(f"cmp.b {LOADED:x} {WRITTEN:x} 100000")
    for pattern in ("55555555", "aaaaaaaa"):
        uboot.run(f"mw.l {LOADED:x} {pattern} 40000")
        uboot.run(f"mw.l {WRITTEN:x} {pattern} 40000")
        assert "262144 word(s) were the same" in uboot.run(f"cmp.l {LOADED:x} {WRITTEN:x} 40000")
    uboot.run(f"mw.b {WRITTEN + 0x800:x} ab")
    assert f"byte at 0x{LOADED + 0x800:x} (0xaa) != byte" in uboot.run(f"cmp.b {LOADED:x} {WRITTEN:x} 100000")


def test_reset(uboot: UBoot) -> None:
    """A reset boots the same U-Boot again, from its first line on."""
    version = uboot.run("version").splitlines()[0]
    uboot.reset()
    assert version in uboot.banner
    assert re.search(r"DRAM: +256 MiB", uboot.banner)


def test_storage_round_trip(dut: Device, tmp_path: Path) -> None:
    """What was flashed is what U-Boot reads; what U-Boot writes is what is dumped."""
    image, dump = tmp_path / "image.bin", tmp_path / "dump.bin"
    content = Random(1).randbytes(256 * SECTOR_BYTES)
    image.write_bytes(content)
    dut.storage.flash(image, target="root")
    uboot = UBoot(dut)
    uboot.on()
    uboot.run("virtio scan")
    assert "256 blocks read: OK" in uboot.run(f"virtio read {LOADED:x} 0 100")
    assert f"==> {zlib.crc32(content):08x}" in uboot.run(f"crc32 {LOADED:x} {len(content):x}")
    uboot.run(f"mw.b {WRITTEN:x} 5a 200")
    assert "1 blocks written: OK" in uboot.run(f"virtio write {WRITTEN:x} 3 1")
    uboot.off()
    dut.storage.dump(dump, target="root")
    assert dump.read_bytes() == content[: 3 * SECTOR_BYTES] + b"\x5a" * SECTOR_BYTES + content[4 * SECTOR_BYTES :]


def test_jumpstarters_uboot_driver(dut: Device) -> None:
    """Jumpstarter's own U-Boot driver works as it does in `jmp shell`: reboot, commands, environment, DHCP."""
    driver: Any = dut.drivers["uboot"]
    with driver.reboot_to_console():
        assert driver.run_command_checked("version")[0].startswith("U-Boot 20")
        driver.set_env("answer", "42")
        assert driver.get_env("answer") == "42"
        assert driver.setup_dhcp().ip_address == "10.0.2.15"  # the first that QEMU's own network gives
    dut.power.off()

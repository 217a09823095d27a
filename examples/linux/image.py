"""
Builds the disk image of the board: Debian's kernel for ARM64, and busybox in an initramfs.

`python image.py FOLDER` writes `FOLDER/disk.img`. The packages come with apt, for another architecture than this
machine's, so apt gets folders of its own: nothing is installed, and the machine's own lists stay as they are.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Where programs are looked for; mke2fs is not on everybody's path."""

PASSWORD = "secret"
_HASH = "$6$debian$eNQkV7ildrwoOpmENuDNyJfo5G1ZgdJBECIT7ktuIdVZXZfHMusC8vIlrR2zLTakz2pQylXpkQJkUWSWMVauF1"
_MODULES = ("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover")
_NETWORK = ("net_failover", "virtio_net")
_SECTOR_BYTES = 512
_FIRST_SECTOR = 2048

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec /sbin/init
"""
START = """\
#!/bin/sh
hostname board
for module in $(cat /modules/order); do insmod /modules/$module; done
ifconfig lo 127.0.0.1
ifconfig eth0 10.0.2.15 netmask 255.255.255.0
echo "It works" >/www/index.html
httpd -h /www
"""
FILES = {
    "init": INIT,
    "etc/start": START,
    "etc/inittab": "::sysinit:/etc/start\nttyAMA0::respawn:/sbin/getty -L 115200 ttyAMA0 vt100\n",
    "etc/passwd": f"root:{_HASH}:0:0:root:/root:/bin/sh\n",
    "etc/profile": "export PS1='\\u@\\h:\\w# '\n",
}
BOOT = """\
DEFAULT linux
TIMEOUT 1
LABEL linux
  KERNEL /vmlinuz
  INITRD /initrd.gz
  APPEND console=ttyAMA0 panic=1
"""


def build(folder: Path) -> Path:
    """Build the image, unless it is there, and return its path."""
    disk = folder / "disk.img"
    if not disk.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as work:
            content = disk_of(Path(work))
        disk.with_suffix(".new").write_bytes(content)
        disk.with_suffix(".new").rename(disk)
    return disk


def disk_of(work: Path) -> bytes:
    """Return the content of the disk: one partition with the kernel, the initramfs, and what U-Boot reads first."""
    root, boot, partition = work / "root", work / "boot", work / "partition.img"
    for package in download(work / "apt"):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    (boot / "extlinux").mkdir(parents=True)
    (boot / "extlinux" / "extlinux.conf").write_text(BOOT)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    kernel.rename(boot / "vmlinuz")
    (boot / "initrd.gz").write_bytes(gzip.compress(initramfs(root)))
    command: list[str | Path] = ["mke2fs", "-q", "-t", "ext2", "-d", boot, partition, "64M"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": SEARCH_PATH})
    return with_partition_table(partition.read_bytes())


def download(folder: Path) -> list[Path]:
    """Download the packages, and return their paths."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
    }
    more = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    subprocess.run(["apt-get", *more, "-qq", "update"], check=True)
    shown = subprocess.run(
        ["apt-cache", *more, "depends", "linux-image-arm64"], check=True, capture_output=True, text=True
    )
    kernel = re.search(r"Depends: (linux-image-\S+)", shown.stdout)
    assert kernel, shown.stdout
    subprocess.run(["apt-get", *more, "-qq", "download", kernel[1], "busybox-static"], check=True, cwd=folder)
    return sorted(folder.glob("*.deb"))


def initramfs(root: Path) -> bytes:
    """Return an archive with busybox, its configuration, and the modules of the network card."""
    archive = Archive()
    for name in (
        "bin",
        "sbin",
        "usr",
        "usr/bin",
        "usr/sbin",
        "etc",
        "root",
        "tmp",
        "proc",
        "sys",
        "dev",
        "www",
        "modules",
    ):
        archive.add(name, 0o40755)
    archive.add("bin/busybox", 0o100755, next(root.glob("**/bin/busybox")).read_bytes())
    for name, text in FILES.items():
        archive.add(name, 0o100755, text.encode())
    order = []
    for name in (*_MODULES, *_NETWORK):
        for module in root.glob(f"**/lib/modules/**/{name}.ko*"):  # those that are missing are in the kernel
            archive.add(f"modules/{module.name}", 0o100644, module.read_bytes())
            order.append(module.name)
    archive.add("modules/order", 0o100644, "\n".join(order).encode())
    archive.add("dev/console", 0o20600, device=(5, 1))
    archive.add("TRAILER!!!", 0)
    return bytes(archive.content)


class Archive:
    """A cpio archive in the format that the kernel reads."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._count = 0

    def add(self, name: str, mode: int, data: bytes = b"", *, device: tuple[int, int] = (0, 0)) -> None:
        """Add a file, folder or device of root."""
        self._count += 1
        path = name.encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        self.content += b"070701" + b"".join(b"%08x" % field for field in fields) + path
        self._pad()
        self.content += data
        self._pad()

    def _pad(self) -> None:
        self.content += bytes(-len(self.content) % 4)


def with_partition_table(partition: bytes) -> bytes:
    """Return a disk with one partition, from which U-Boot boots."""
    sectors = len(partition) // _SECTOR_BYTES
    entry = struct.pack("<B3xB3xII", 0x80, 0x83, _FIRST_SECTOR, sectors)
    table = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    return table + bytes((_FIRST_SECTOR - 1) * _SECTOR_BYTES) + partition


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))

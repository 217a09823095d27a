"""Serial ports of this machine: which there are, why one cannot be opened, and which programs have it open."""

from __future__ import annotations

import getpass
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BY_ID = Path("/dev/serial/by-id")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialPort:
    """
    A serial port of this machine.

    Attributes:
        device: Its device file, such as `/dev/ttyUSB0`; the number may change when it is plugged in again.
        by_id: A name for it that does not change, below `/dev/serial/by-id`; empty if there is none.
        description: What the adapter calls itself.
    """

    device: str
    by_id: str
    description: str

    @property
    def path(self) -> str:
        """The name to use in a lab file."""
        return self.by_id or self.device


def serial_ports() -> list[SerialPort]:
    """Return the serial ports that pyserial finds; none if it is not installed."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        return []
    links = {os.path.realpath(link): str(link) for link in sorted(_BY_ID.glob("*"))}
    ports = [
        SerialPort(
            device=port.device,
            by_id=links.get(os.path.realpath(port.device), ""),
            description=port.description if port.description != "n/a" else "",
        )
        for port in comports()
    ]
    return sorted(ports, key=lambda port: (not port.by_id, port.path))  # those of USB first


def names_of_ports() -> str:
    """Return the serial ports of this machine for a message."""
    return ", ".join(port.path for port in serial_ports()) or "none found"


def objection(path: str) -> str:
    """Return why this process cannot use the serial port at `path`, and what to do; empty if it seems usable."""
    if not os.path.lexists(path):
        return f"{path} does not exist; serial ports of this machine: {names_of_ports()}; check cable and name"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return f"{path} is a link to {os.readlink(path)}, which does not exist; check that the board is plugged in"
    if not stat.S_ISCHR(mode):
        return f"{path} is no serial port, but a {'folder' if stat.S_ISDIR(mode) else 'file of another kind'}"
    return "" if os.access(path, os.R_OK | os.W_OK) else not_permitted(path)


def not_permitted(path: str) -> str:
    """Return that this user may not open `path`, who may, and what to do."""
    facts = os.stat(path)
    owner, group = _name_of_user(facts.st_uid), _name_of_group(facts.st_gid)
    said = f"user {_user()} may not open {path} ({stat.filemode(facts.st_mode)}, owner {owner}, group {group})"
    if facts.st_mode & 0o060 != 0o060 or facts.st_gid == 0:
        return f"{said}; a udev rule can give it to a group, such as dialout (see docs/bench.md)"
    if facts.st_gid in os.getgroups():
        return said
    if _user() in _members(facts.st_gid):
        return f"{said}; {_user()} is in group {group}, but this session is older: log out and in again"
    return f"{said}; run `sudo usermod -aG {group} {_user()}`, then log out and in again"


def device_files(options: Any) -> Iterator[str]:
    """Yield the device files that options of drivers name."""
    return (text for text in texts_of(options) if text.startswith("/dev/") or _is_device(text))


def texts_of(options: Any) -> Iterator[str]:
    """Yield all texts among the values of options, at any depth."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping):
        for each in options.values():
            yield from texts_of(each)
    elif isinstance(options, list):
        for each in options:
            yield from texts_of(each)


def _is_device(text: str) -> bool:
    try:
        return text.startswith("/") and Path(text).is_char_device()
    except (OSError, ValueError):
        return False


def holders(path: str) -> list[str]:
    """Return the other processes that have `path` open, such as `picocom (process 123)`, as far as /proc shows them."""
    target = os.path.realpath(path)
    return [f"{_command(pid)} (process {pid})" for pid in _others() if _has_open(pid, target)]


def shared_ports(options: Any) -> Iterator[str]:
    """Yield a warning for each device file in options of drivers that another program has open."""
    for path in dict.fromkeys(device_files(options)):
        if by := ", ".join(holders(path)):
            yield f"{path} is also open in {by}; each gets a part of what the board says"


def _others() -> Iterator[int]:
    if _PROC.is_dir():
        yield from sorted(
            int(each.name) for each in _PROC.iterdir() if each.name.isdigit() and int(each.name) != os.getpid()
        )


def _has_open(pid: int, target: str) -> bool:
    """Return whether a process has a file open; of a pseudo-terminal, the process at its other end does not count."""
    try:
        files = {os.readlink(each) for each in (_PROC / str(pid) / "fd").iterdir()}
    except OSError:  # it has ended, or belongs to another user
        return False
    is_board = target.startswith("/dev/pts/") and any(file.endswith("/ptmx") for file in files)
    return target in files and not is_board


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip() or "a program"
    except OSError:
        return "a program"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for the user
        return f"with id {os.getuid()}"


def _name_of_user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name_of_group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _members(gid: int) -> list[str]:
    import grp

    try:
        return grp.getgrgid(gid).gr_mem
    except KeyError:
        return []

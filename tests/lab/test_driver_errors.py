"""What is said of drivers that do not start."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_jumpstarter.jumpstarter_private import ExporterConfigV1Alpha1
from pytest_jumpstarter.lab import ports
from pytest_jumpstarter.lab.driver_errors import explain
from pytest_jumpstarter.lab.ports import SerialPort

SERIAL = "jumpstarter_driver_pyserial.driver.PySerial"
DRIVERS = """
import socket, subprocess
from dataclasses import field
from typing import Any
import pydantic
from jumpstarter.driver import Driver
from dataclasses import dataclass

class Base(Driver):
    @classmethod
    def client(cls):
        return "jumpstarter_driver_power.client.PowerClient"

@dataclass(kw_only=True)
class Raises(Base):
    number: int = 0
    of: str = "/dev/relay"

    def __post_init__(self):
        super().__post_init__()
        raise OSError(self.number, "what C says", self.of)

@dataclass(kw_only=True)
class Connects(Base):
    address: str

    def __post_init__(self):
        super().__post_init__()
        host, port = self.address.split(":")
        socket.create_connection((host, int(port)), 5)

@dataclass(kw_only=True)
class Starts(Base):
    tool: str

    def __post_init__(self):
        super().__post_init__()
        subprocess.run([self.tool])

@pydantic.dataclasses.dataclass(kw_only=True)
class Strict(Base):
    slot: int = pydantic.Field(gt=0)
    hosts: list[str] = field(default_factory=list)

class Imports(Base):
    def __init__(self, **_):
        import nonesuch_tool

class Breaks(Base):
    def __init__(self, **_):
        raise RuntimeError("the relay\\n  is stuck")
"""


@pytest.fixture(autouse=True)
def _drivers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a module of drivers with faults."""
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "faulty_drivers.py").write_text(DRIVERS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(ports, "serial_ports", lambda: [SerialPort(device="/dev/ttyACM0", by_id="", description="")])


@pytest.fixture
def said() -> Callable[..., str]:
    """Return what starts a driver below `rack.tool`, which must fail, and returns what is said of it."""

    def start(type_: str, **options: Any) -> str:
        tool = {"type": type_ if "." in type_ else f"faulty_drivers.{type_}", "config": options}
        export = {"good": {"type": "jumpstarter_driver_power.driver.MockPower"}, "rack": {"children": {"tool": tool}}}
        config = ExporterConfigV1Alpha1.model_validate({"metadata": {"namespace": "n", "name": "a"}, "export": export})
        try:
            for child in config.export.values():
                child.instantiate()
        except Exception as error:
            text = explain(error, config.export)
        head = f"driver 'rack.tool' ({tool['type']})"
        assert text.startswith(head)
        assert "\n" not in text
        return text.removeprefix(head)

    return start


@pytest.mark.parametrize(
    ("type_", "options", "words"),
    [
        (
            SERIAL,
            {"url": "loop://", "bauderate": 9600},
            " has no option 'bauderate'; did you mean 'baudrate'?; its opt",
        ),
        (SERIAL, {"tty": "/dev/ttyUSB7"}, " has no option 'tty', and needs 'url'; its options: url (required), baud"),
        (SERIAL, {}, " needs option 'url'; its options: url (required), baudrate=115200, check_present=True, cps, dis"),
        (SERIAL, {"url": "loop://x", "baudrate": "fast"}, ": ValueError: invalid literal for int() with base 10: 'fa"),
        ("Strict", {}, " needs option 'slot'; its options: slot (required), hosts"),
        (
            "Strict",
            {"slot": "x"},
            ": option 'slot': Input should be a valid integer, unable to parse string as an inte",
        ),
        ("Strict", {"slot": 0}, ": option 'slot': Input should be greater than 0; its options: slot (required), hosts"),
        (
            SERIAL,
            {"url": "/dev/ttyUSB7"},
            ": /dev/ttyUSB7 does not exist; serial ports of this machine: /dev/ttyACM0; ",
        ),
        (SERIAL, {"url": "/srv/tty7"}, ": /srv/tty7 does not exist; serial ports of this machine: /dev/ttyACM0; "),
        (SERIAL, {"url": "tty:7"}, ": tty:7 does not exist"),
        (SERIAL, {"url": "what://x"}, ": ValueError: invalid URL, protocol 'what' not known"),
        (
            "Raises",
            {"number": errno.EIO},
            ": there is no device behind /dev/relay (what C says); check that it is plug",
        ),
        (
            "Raises",
            {"number": errno.EBUSY},
            ": /dev/relay is in use by a program that this user may not see: sudo fuser -v /dev/relay; clo",
        ),
        ("Raises", {"number": errno.EACCES}, ": this user may not use /dev/relay"),
        ("Raises", {"number": errno.ENOENT, "of": "/etc/pdu.key"}, ": /etc/pdu.key does not exist"),
        ("Raises", {"number": errno.ENOMEM, "of": "/etc/x"}, ": OSError: [Errno 12] what C says: '/etc/x'"),
        ("Connects", {"address": "nowhere.invalid:1"}, ": the host of nowhere.invalid:1 cannot be resolved; check its"),
        ("Starts", {"tool": "nonesuch-tool"}, ": the program nonesuch-tool is not installed, or not in PATH"),
        ("Imports", {}, ": it needs module nonesuch_tool, which is not installed"),
        ("Breaks", {}, ": RuntimeError: the relay is stuck"),
    ],
)
def test_kinds(said: Callable[..., str], type_: str, options: dict[str, Any], words: str) -> None:
    """Options are told with those that the class has, the operating system's reason in plain words, with a remedy."""
    assert said(type_, **options).startswith(words)


def test_refused_connection(said: Callable[..., str]) -> None:
    """An address at which nothing listens is named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert (
        said("Connects", address=address) == f": nothing listens at {address} (connection refused); check host and port"
    )


def test_a_file_is_no_port(said: Callable[..., str], tmp_path: Path) -> None:
    """A path that leads to something else than a serial port says so, and a link that leads nowhere too."""
    (tmp_path / "notes").write_text("")
    (tmp_path / "board").symlink_to("gone")
    assert (
        said(SERIAL, url=str(tmp_path / "notes")) == f": {tmp_path}/notes is no serial port, but a file of another kind"
    )
    assert ports.objection(str(tmp_path / "board")).startswith(
        f"{tmp_path}/board is a link to gone, which does not exist"
    )


def test_value_of_an_option(said: Callable[..., str]) -> None:
    """An error that quotes the value of an option says which option that is, and which there are."""
    text = said(SERIAL, url="loop://x", baudrate="fast")
    assert "base 10: 'fast'; check option 'baudrate'; its options: url (required), baudrate=115200, " in text


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Path]:
    """Return a serial port of a board that says nothing."""
    board, other = os.openpty()
    link = tmp_path / "ttyBOARD"
    link.symlink_to(os.ttyname(other))
    yield link
    os.close(board)
    os.close(other)


def test_who_has_a_port(said: Callable[..., str], port: Path) -> None:
    """A port that is in use names the program that has it open."""
    code = f"file = open({str(port)!r}); print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        holder = f"{Path(f'/proc/{other.pid}/comm').read_text().strip()} (process {other.pid})"
        assert ports.holders(str(port)) == [holder]
        [warning] = ports.shared_ports({"serial": {"config": {"urls": [str(port), str(port)]}}})
        words = said("Raises", number=errno.EBUSY, of=str(port))
        other.communicate("\n")
    assert words == f": {port} is in use by {holder}; close it there"
    assert warning == f"{port} is also open in {holder}; each gets a part of what the board says"
    assert ports.holders(str(port)) == []


@pytest.mark.parametrize(
    ("mode", "members", "words"),
    [
        (0o660, [], "run `sudo usermod -aG tty me`, then log out and in again"),
        (0o660, ["me"], "me is in group tty, but this session is older: log out and in again"),
        (0o600, [], "a udev rule can give it to a group, such as dialout (see docs/bench.md)"),
    ],
)
def test_permission(port: Path, monkeypatch: pytest.MonkeyPatch, mode: int, members: list[str], words: str) -> None:
    """A port that this user may not open says who may, and how to become one of them."""
    facts = os.stat(port)
    changed = os.stat_result((0o020000 | mode, *facts[1:4], 0, 5, *facts[6:]))
    monkeypatch.setattr(os, "stat", lambda _: changed)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    monkeypatch.setattr(ports, "_name_of_group", lambda _: "tty")
    monkeypatch.setattr(ports, "_members", lambda _: members)
    monkeypatch.setattr(ports, "_user", lambda: "me")
    said = ports.not_permitted(str(port))
    monkeypatch.undo()
    assert said.startswith(f"user me may not open {port} (crw-")
    assert said.endswith(words)

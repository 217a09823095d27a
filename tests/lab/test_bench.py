"""`python -m pytest_jumpstarter.lab --init` and `--check`: a lab file for a board on this machine."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import HEEDING_SIGNALS

from pytest_jumpstarter.lab import bench, ports
from pytest_jumpstarter.lab.__main__ import main
from pytest_jumpstarter.lab.documents import read_documents
from pytest_jumpstarter.lab.ports import SerialPort
from pytest_jumpstarter.lab.power_drivers import POWER_DRIVERS

BENCH = Path(__file__).parents[2] / "docs" / "bench.md"
USB = SerialPort(device="/dev/ttyUSB0", by_id="/dev/serial/by-id/usb-FTDI_X-if00", description="FT232R USB UART")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Path]:
    """Return the serial port of a board, which says what comes through the FIFO beside it."""
    master, other = os.openpty()
    os.mkfifo(tmp_path / "power")
    (tmp_path / "ttyBOARD").symlink_to(os.ttyname(other))

    def speak() -> None:
        while (word := (tmp_path / "power").read_text().strip()) != "end":
            os.write(
                master, b"U-Boot 2024.01\r\n" if word == "on" else b"\x80\xfe\x81" * 30 if word == "noise" else b""
            )

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    yield tmp_path / "ttyBOARD"
    (tmp_path / "power").write_text("end")
    thread.join(10)
    os.close(master)
    os.close(other)


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return what runs `--init` with these answers and arguments, and returns its exit code, output and errors."""

    def run(*arguments: str, answers: str = "", found: list[SerialPort] | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(answers))
        monkeypatch.setattr(bench, "serial_ports", lambda: found or [])
        monkeypatch.setattr(ports, "serial_ports", lambda: found or [])
        capsys.readouterr()
        code = main(["--init", *arguments])
        return code, *capsys.readouterr()

    return run


class _Typed(io.StringIO):
    """Answers that a person types."""

    def isatty(self) -> bool:
        return True


SHELL = ("--power", "shell", "--power-on", "echo on > power", "--power-off", "echo off > power")
NAMED = ("--name", "rpi", "--label", "board=rpi4", "--baudrate", "9600")


def test_arguments_alone(init: Callable[..., tuple[int, str, str]], board: Path) -> None:
    """With all arguments nothing is asked; the check switches the power, and shows what the board says."""
    code, out, _ = init("a.yaml", "--serial", "ttyBOARD", *SHELL, *NAMED, "--check")
    assert code == 0
    assert "? " not in out
    assert "  ✓ power.off()\n  ✓ power.on()\n  ✓ the board sent 16 bytes, beginning with: U-Boot 2024.01\n" in out
    assert out.endswith("\nUse it: pytest --jmp-lab=a.yaml --jmp-selector board=rpi4\n")
    [document] = read_documents(["a.yaml"])
    assert (document.name, document.labels) == ("rpi", {"board": "rpi4"})
    assert document.config["export"]["serial"]["config"] == {"url": str(board), "baudrate": 9600}
    methods = {"on": "echo on > power", "off": "echo off > power"}
    cycle = "echo off > power && sleep 2 && echo on > power"
    assert document.config["export"]["power"]["config"] == {"methods": methods | {"cycle": cycle}}


def test_answers(init: Callable[..., tuple[int, str, str]]) -> None:
    """What no argument says is asked; the only USB port is the default, by the name that does not change."""
    code, out, _ = init("--no-check", answers="\n\nykush\n2\nrig\nkind=dut\n", found=[USB])
    assert code == 0
    assert "  1  /dev/serial/by-id/usb-FTDI_X-if00  FT232R USB UART\n" in out
    text = Path("lab.yaml").read_text()
    assert "  # FT232R USB UART, now /dev/ttyUSB0\n  serial:\n" in text
    assert "  # Install its driver first: pip install jumpstarter-driver-yepkit\n  power:\n" in text
    [document] = read_documents(["lab.yaml"])
    assert document.config["export"]["serial"]["config"]["url"] == USB.by_id
    assert document.config["export"]["power"]["config"] == {"port": 2}


@pytest.mark.parametrize("power", [name for name, driver in POWER_DRIVERS.items() if driver.type])
def test_every_power_driver(init: Callable[..., tuple[int, str, str]], power: str) -> None:
    """Each driver gives a lab file with its class; only a mock says that it is one, in the file and to each run."""
    answers = "7\n" * len(POWER_DRIVERS[power].questions)
    code, _, _ = init("--serial", "none", "--power", power, *NAMED, "--no-check", answers=answers)
    assert code == 0
    [document] = read_documents(["lab.yaml"])
    assert document.drivers == {"power": POWER_DRIVERS[power].type}
    assert ("MOCK" in Path("lab.yaml").read_text()) == (power == "mock")
    assert [" is a mock (" in notice for notice in document.notices] == [True] * (power == "mock")


@pytest.mark.parametrize(
    ("arguments", "answers", "error"),
    [
        ((), "", "standard input ended before 'serial port of the console (number, path, or none)' was answered; give"),
        (("--serial", "none"), "", "standard input ended before 'power' was answered; give --power"),
        (("--serial", "/dev/ttyUSB7"), "", "--serial: /dev/ttyUSB7 does not exist; serial ports of this machine: none"),
        (("--serial", "none", "--power", "none"), "", "a board without a console and without a power switch leaves"),
        (("--serial", "none"), "relay\n", "--power: there is no 'relay'; choose one of shell, http, tasmota, "),
        (
            ("--serial", "none", "--power", "mock", "--name", "A b"),
            "",
            "--name 'A b': an exporter's name is lower-case",
        ),
        (("--serial", "none", "--power", "mock", "--name", "a", "--label", "x"), "", "--label 'x': write NAME=VALUE"),
        (("--serial", "loop://", "--baudrate", "fast"), "", "--baudrate: 'fast' is no number"),
        (
            ("--serial", "none", "--power", "mock", "--power-option", "speed={"),
            "",
            "--power-option speed: '{' is not a value",
        ),
        (("nowhere/lab.yaml",), "", "there is no folder "),
    ],
)
def test_wrong_answers(
    init: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], answers: str, error: str
) -> None:
    """Each wrong or missing answer is one sentence, and no file is written."""
    code, _, err = init(*arguments, answers=answers)
    assert code == 2
    assert err.startswith(f"lab --init: {error}")
    assert err.endswith("; nothing was written\n")
    assert len(err.splitlines()) == 1
    assert not Path("lab.yaml").exists()


def test_terminal_asks_again(init: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a wrong answer is told, and only its question is asked again."""
    monkeypatch.setattr(io, "StringIO", _Typed)
    answers = "/dev/ttyUSB7\n7\nloop://\nfast\n9600\nrelay\n\nhttp\n{\nhttp://x\nhttp://y\nA b\nrig\nboard\nkind=x\n"
    code, out, err = init("--no-check", answers=answers)
    assert (code, err) == (0, "")
    for wrong in (
        "  --serial: /dev/ttyUSB7 does not exist; ",
        "  --baudrate: 'fast' is no number\n",
        "  --power: there is no 'relay'; ",
        "  'power' has no answer; ",
        "'{' is not a value in YAML; ",
        "  --name 'A b': ",
        "  --label 'board': write NAME=VALUE\n",
    ):
        assert out.count(wrong) == 1
    [document] = read_documents(["lab.yaml"])
    assert (document.name, document.labels) == ("rig", {"kind": "x"})
    assert document.config["export"]["serial"]["config"] == {"url": "loop://", "baudrate": 9600}


def test_no_ports(init: Callable[..., tuple[int, str, str]]) -> None:
    """Without any port it says what to look at."""
    _, out, _ = init()
    assert out.startswith("No serial port was found on this machine. Check that the board is plugged in")


def test_nothing_is_overwritten(init: Callable[..., tuple[int, str, str]]) -> None:
    """A file that is there stays as it is."""
    Path("lab.yaml").write_text("mine")
    code, _, err = init("--serial", "none", "--power", "mock", *NAMED)
    assert (code, Path("lab.yaml").read_text()) == (2, "mine")
    assert err == (
        "lab --init: lab.yaml exists, and is not overwritten; name another file, or move it away; nothing was written\n"
    )


def test_interrupt() -> None:
    """Ctrl-C at a question ends it with one line and exit code 130."""
    command = [*HEEDING_SIGNALS, sys.executable, "-m", "pytest_jumpstarter.lab", "--init"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith("or none)"):
            character = process.stdout.read(1)
            assert character
            shown += character
        for _ in range(3):  # Python heeds no signal that comes just before it begins to read
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)  # not `communicate`, which ends the input: that may be seen first
                break
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "\nlab --init: interrupted; nothing was written\n")


@pytest.mark.parametrize(
    ("on", "says", "code"),
    [
        ("echo noise > power", "✗ the board sent 90 bytes that are not text; the baud rate is probably wrong", 1),
        ("exit 3", "✗ power.on(): its command ended with exit code 3", 1),
    ],
)
def test_what_fails(init: Callable[..., tuple[int, str, str]], board: Path, on: str, says: str, code: int) -> None:
    """What does not work is told, and how to try again."""
    power = ("--power", "shell", "--power-on", on, "--power-off", "true")
    result, out, _ = init("--serial", "ttyBOARD", *power, *NAMED, "--check")
    assert f"  {says}\n\nMend what has a ✗, then: python -m pytest_jumpstarter.lab --check lab.yaml\n" in out
    assert result == code


def test_check_of_a_port_in_use(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A port that another program reads is refused, with the name of the program."""
    Path("lab.yaml").write_text(
        "metadata: {name: a}\nexport: {serial: {type: jumpstarter_driver_pyserial.driver.PySerial, "
        f"config: {{url: {board}}}}}}}\n"
    )
    code = f"file = open({str(board)!r}); print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert main(["--check", "lab.yaml"]) == 1
        other.communicate("\n")
    assert f"✗ {board} is in use by python" in capsys.readouterr().out


def test_check_asks_before_it_switches(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer the power of a real board is not switched; a broken file is one sentence."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    Path("lab.yaml").write_text(
        "metadata: {name: a}\nexport: {power: {type: jumpstarter_driver_shell.driver.Shell, "
        "config: {methods: {'on': 'touch x', 'off': 'touch x'}}}}\n"
    )
    assert main(["--check", "lab.yaml"]) == 0
    assert "  ? the power was not switched, and the console not read\n" in capsys.readouterr().out
    assert not Path("x").exists()
    assert main(["--check", "none.yaml"]) == 2
    assert capsys.readouterr().err == "lab --check: lab file none.yaml does not exist\n"


def test_check_of_an_option_that_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    """An option that the driver does not have is a fault, also if the driver says nothing of it."""
    Path("lab.yaml").write_text(
        "metadata: {name: a}\nexport: {power: {type: jumpstarter_driver_power.driver.MockPower, config: {slot: 1}}}\n"
    )
    assert main(["--check", "lab.yaml"]) == 1
    driver = "driver 'power' (jumpstarter_driver_power.driver.MockPower)"
    assert f"  ✗ {driver} has no option 'slot', and ignores it; its options: none\n" in capsys.readouterr().out


def test_the_page_has_every_driver() -> None:
    """The page of the bench has each power driver with its class and package."""
    page = BENCH.read_text()
    for name, driver in POWER_DRIVERS.items():
        if driver.type:
            row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
            assert f"`{driver.type}`" in row
            assert f"`{driver.package}`" in row

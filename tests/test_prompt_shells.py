"""`ZephyrShell` and `PlainShell`, where a command ends with the next prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shells import bench_of, program

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout
from pytest_jumpstarter.device.prompt_shells import PlainShell, ZephyrShell

ZEPHYR = str(Path(__file__).parent / "zephyr_shell.py")
BASH = "stty columns 80; TERM=vt100 PS1=gnu# exec bash --norc --noprofile -i"
BOARD = "  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Lease an exporter with boards that run Zephyr, and the virtual board."""
    zephyr = program("zephyr", sys.executable, ZEPHYR) + program("old", sys.executable, ZEPHYR, "retval")
    bash = program("bash", "sh", "-c", BASH)
    with bench_of(zephyr + bash + BOARD, tmp_path_factory.mktemp("bench")) as device:
        yield device


@pytest.fixture(scope="module")
def zephyr(bench: Device) -> ZephyrShell:
    """Return the shell of Zephyr at its prompt."""
    return ZephyrShell(bench.console("zephyr"), timeout=20).login()


@pytest.fixture(scope="module")
def board(bench: Device) -> PlainShell:
    """Return the shell of the virtual board, logged in."""
    bench.drivers["board.power"].on()
    return PlainShell(bench.console("board.console"), prompt=r"board:~# ", user="root", timeout=20).login()


def test_zephyr_output_and_exit_code(zephyr: ZephyrShell) -> None:
    """A result has the output of the command, without colours, and what its function returned."""
    result = zephyr.run("kernel version")
    assert (result.stdout, result.exited, result.kernel) == ("Zephyr version 4.2.0", 0, ())
    with pytest.raises(CommandFailed, match=r"(?s)'nonsense' exited -8; .*nonsense: command not found"):
        zephyr.run("nonsense")
    assert zephyr.run("fail -19", check=False).exited == -19
    assert zephyr.run("fail 5", check=False).exited == 5


def test_zephyr_log_messages(zephyr: ZephyrShell) -> None:
    """Messages of the log that come after a command are apart from its output, and so is the prompt that they wipe."""
    result = zephyr.run("log")
    assert result.stdout == "logged"
    assert result.kernel == ("[00:00:01.000,000] <inf> app: tick",)


@pytest.mark.parametrize("text", ["uart:~$ ", "x" * 200, "a;b && c # d 'e", "1"])
def test_zephyr_any_text(zephyr: ZephyrShell, text: str) -> None:
    """A prompt in the output, a line that is wrapped, and what other shells would interpret are only text."""
    assert zephyr.run(f"echo {text}").stdout.rstrip() == text.rstrip()


def test_zephyr_output_without_a_newline(zephyr: ZephyrShell) -> None:
    """Output that does not end with a newline is not lost."""
    assert zephyr.run("bare").stdout == "no newline"


def test_zephyr_each_command_gets_its_own_answer(zephyr: ZephyrShell) -> None:
    """Each of many commands gets its own output and exit code."""
    for number in range(20):
        assert zephyr.run(f"echo {number}").stdout == str(number)
        assert zephyr.run(f"fail {number}", check=False).exited == number


def test_zephyr_that_is_busy(zephyr: ZephyrShell) -> None:
    """A command that does not end is a timeout, and so is each one after it, at once, until the shell is back."""
    with pytest.raises(CommandTimeout, match=r"'busy' did not end within 0\.5s"):
        zephyr.run("busy", timeout=0.5)
    with pytest.raises(CommandTimeout, match="has had no prompt since 'busy'"):
        zephyr.run("echo on", timeout=600)
    zephyr.console.send("q")
    assert zephyr.run("echo on").stdout == "on"


def test_zephyr_without_exit_codes(bench: Device) -> None:
    """A Zephyr without `retval` is an error that names the option to build it with."""
    shell = ZephyrShell(bench.console("old"), timeout=20).login()
    with pytest.raises(ValueError, match="CONFIG_SHELL_CMDS_RETURN_VALUE"):
        shell.run("kernel version")
    assert PlainShell(bench.console("old"), prompt=r"uart:~\$ ").login().run("echo plain").stdout == "plain"


@pytest.mark.parametrize("command", ["two\nlines", "ä", "a\tb"])
def test_what_cannot_be_typed(zephyr: ZephyrShell, command: str) -> None:
    """What such a shell cannot take is refused before anything is typed."""
    with pytest.raises(ValueError, match="one line of ASCII"):
        zephyr.run(command)


def test_virtual_board(board: PlainShell) -> None:
    """The virtual board has no exit codes; what it prints is what it printed."""
    result = board.run("version")
    assert (result.stdout, result.exited) == ("1.0.0", None)
    assert "not found" in board.run("nonsense").stdout
    assert [board.run("version").stdout for _ in range(20)] == ["1.0.0"] * 20
    assert board.wait_until("version", match=r"^1\.0").stdout == "1.0.0"


@pytest.mark.parametrize("send_delay", [0.0, 0.002])
def test_long_line_in_bash(bench: Device, send_delay: float) -> None:
    """A line that bash wraps at 80 columns, as each character comes or at once, is what was typed."""
    shell = PlainShell(bench.console("bash"), prompt="gnu#", timeout=20, send_delay=send_delay).login()
    for length in range(70, 170, 9):
        words = f"{'x' * (length - 60)} {'ab ' * 20}"
        assert shell.run(f"echo {words}").stdout.split() == words.split()


def test_login_after_a_reboot(board: PlainShell) -> None:
    """After a boot, login goes through the login prompt again."""
    board.console.sendline("reboot")
    board.console.expect("Boot ROM")
    assert board.login().run("version").stdout == "1.0.0"

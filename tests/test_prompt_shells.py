"""`ZephyrShell` and `PlainShell`, where a command ends with the next prompt, and `UBootShell`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from shells import bench_of, program

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout
from pytest_jumpstarter.device.prompt_shells import PlainShell, ZephyrShell
from pytest_jumpstarter.device.shell import UBootShell
from pytest_jumpstarter.errors import BoardRebooted, ConsoleGarbled

ZEPHYR = str(Path(__file__).parent / "zephyr_shell.py")
UBOOT = str(Path(__file__).parent / "uboot_shell.py")
BASH = "stty columns 80; TERM=vt100 PS1=gnu# exec bash --norc --noprofile -i"
BOARD = "  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Lease an exporter with boards that run Zephyr and U-Boot, and the virtual board."""
    zephyr = program("zephyr", sys.executable, ZEPHYR) + program("old", sys.executable, ZEPHYR, "retval")
    bash = program("bash", "sh", "-c", BASH)
    uboot = program("uboot", sys.executable, UBOOT) + program("uboot_space", sys.executable, UBOOT, "space")
    with bench_of(zephyr + uboot + bash + BOARD, tmp_path_factory.mktemp("bench")) as device:
        yield device


@pytest.fixture(scope="module")
def zephyr(bench: Device) -> ZephyrShell:
    """Return the shell of Zephyr at its prompt."""
    return ZephyrShell(bench.console("zephyr"), timeout=20).login()


@pytest.fixture(scope="module")
def uboot(bench: Device) -> UBootShell:
    """Return U-Boot at its prompt: its countdown was stopped."""
    return UBootShell(bench.console("uboot"), timeout=20).login()


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


def test_uboot_output_and_exit_code(uboot: UBootShell) -> None:
    """A result has the output of the command alone, and the exit code of its last part."""
    result = uboot.run("printenv bootdelay")
    assert (result.stdout, result.exited, result.kernel) == ("bootdelay=2", 0, ())
    assert uboot.run("setenv answer 'forty two; or so'; printenv answer").stdout == "answer=forty two; or so"
    assert uboot.run("true; false", check=False).exited == 1
    assert uboot.run("false; true").exited == 0
    assert uboot.run("version").lines[-1] == "gcc (Debian) 12.2.0"
    with pytest.raises(CommandFailed, match=r"(?s)'nonsense' exited 1; .*Unknown command 'nonsense'"):
        uboot.run("nonsense")


@pytest.mark.parametrize("path", ["uboot", "uboot_space"])
def test_uboot_runs_each_command_once(bench: Device, path: str) -> None:
    """Enter alone would run the last command again: it is never pressed, not even by a login at the prompt."""
    shell = UBootShell(bench.console(path), timeout=20).login()
    shell.run("setenv number 0")
    for number in range(1, 21):
        shell.run("count number")
        assert shell.run("printenv number").stdout == f"number={number}"
    shell.run("count number")
    assert shell.login().run("printenv number").stdout == "number=21"
    assert [shell.run(f"echo {number}").stdout.rstrip() for number in range(20)] == list(map(str, range(20)))


def test_uboot_that_is_busy(uboot: UBootShell) -> None:
    """A command that does not end is a timeout; the next one begins with Ctrl-C."""
    with pytest.raises(CommandTimeout, match=r"'sleep 60' did not end within 0\.5s"):
        uboot.run("sleep 60", timeout=0.5)
    assert uboot.run("echo again").stdout == "again"


def test_uboot_that_resets(uboot: UBootShell) -> None:
    """The banner during a command is a reboot; `login` stops the countdown, and what was not saved is gone."""
    uboot.run("setenv answer 42")
    with pytest.raises(BoardRebooted, match=r"(?s)during 'reset'.*U-Boot 2023\.01"):
        uboot.run("reset")
    assert uboot.login().run("printenv answer", check=False).stdout == '## Error: "answer" not defined'


@pytest.mark.parametrize("command", ["two\nlines", "ä", "a\tb", "echo 'open", "echo \\"])
def test_what_uboot_cannot_take(uboot: UBootShell, command: str) -> None:
    """A command for which U-Boot would wait for the rest is refused before anything is typed."""
    with pytest.raises(ValueError, match=r"U-Boot takes one line of ASCII|cannot be run: No"):
        uboot.run(command)


def test_uboot_on_a_line_that_loses_characters(bench: Device, uboot: UBootShell) -> None:
    """A line that arrives damaged is not run: each command ran once, and its answer is its own, or it is an error."""
    uboot.run("setenv number 0")
    bench.drivers["uboot"].call("set_faults", 1, 0.005, 0, 0, 0)
    ran = 0
    for number in range(8):
        with suppress(ConsoleGarbled):
            assert uboot.run(f"count number; echo {number}").stdout == str(number)
            ran += 1
    bench.drivers["uboot"].call("set_faults", 1, 0, 0, 0, 0)
    assert ran
    assert uboot.run("printenv number").stdout == f"number={ran}"

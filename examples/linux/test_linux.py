"""What one tests of a Linux board that one is logged in to, over its serial console."""

from __future__ import annotations

import secrets
from urllib.request import urlopen

import pytest

from pytest_jumpstarter import BoardRebooted, CommandFailed, Device, Shell


def test_system(linux: Shell) -> None:
    """The system is the one that was flashed."""
    assert linux.run("uname -m").stdout == "aarch64"
    assert linux.run("cat /proc/sys/kernel/hostname; whoami").lines == ["board", "root"]
    with pytest.raises(CommandFailed, match=r"(?s)exited 1.*No such file"):
        linux.run("ls /nothing")
    assert "Linux version" in linux.run("dmesg | head -3").stdout


def test_many_commands(linux: Shell) -> None:
    """Each command gets its own answer, while the kernel prints what it likes."""
    with_noise = 'echo "noise {0}" >/dev/kmsg; echo {0}; (exit {0})'
    for number in range(25):
        result = linux.run(with_noise.format(number), check=False)
        assert result.exited == number
        assert str(number) in result.lines


def test_messages_of_the_kernel(linux: Shell) -> None:
    """What the kernel prints meanwhile is apart from the output."""
    result = linux.run("echo one; echo h >/proc/sysrq-trigger; sleep 0.2; echo two")
    assert result.lines == ["one", "two"]
    assert "sysrq: HELP" in result.kernel[0]


def test_files(linux: Shell) -> None:
    """Small files go both ways over the console."""
    script = b"#!/bin/sh\necho $1 is here\n"
    linux.put(script, "/tmp/greet", mode=0o755)
    assert linux.run("/tmp/greet nobody").stdout == "nobody is here"
    data = secrets.token_bytes(2000)
    linux.put(data, "/tmp/data")
    assert linux.get("/tmp/data") == data
    assert linux.get("/etc/passwd").startswith(b"root:")


def test_command_in_the_background(linux: Shell) -> None:
    """A command runs while the test does something else, and ends with its block."""
    with linux.start("cat") as echo:
        echo.sendline("ping")
        echo.expect("ping\r\nping\r\n", timeout=20)
    assert echo.result is not None
    assert echo.result.exited == 130
    assert linux.run("echo on").stdout == "on"


def test_network(dut: Device, linux: Shell) -> None:
    """A service of the board is reached through the tunnel to its exporter."""
    from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

    linux.wait_until("netstat -ltn", match=r":80\b")
    linux.put("<p>from the board</p>", "/www/page.html")
    with (
        TcpPortforwardAdapter(client=dut.http) as (host, port),
        urlopen(f"http://{host}:{port}/page.html", timeout=30) as page,
    ):
        assert page.read() == b"<p>from the board</p>"


def test_reboot(linux: Shell) -> None:
    """A reboot during a command is a failure of that command, at once; `login` waits for the next boot."""
    linux.run("touch /tmp/before")
    with pytest.raises(BoardRebooted, match=r"(?s)during 'reboot -f'.*U-Boot 20"):
        linux.run("reboot -f", timeout=600)
    assert not linux.login().run("test -e /tmp/before", check=False).ok


@pytest.mark.jumpstarter(spoils=True)
def test_panic(linux: Shell) -> None:
    """A panic ends a command at once, with the words of the kernel."""
    with pytest.raises(AssertionError, match=r"Kernel panic - not syncing: sysrq triggered crash"):
        linux.run("echo c >/proc/sysrq-trigger", timeout=600)

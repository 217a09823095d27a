"""What one tests of a Linux board at the prompt of its boot loader."""

from __future__ import annotations

import pytest

from pytest_jumpstarter import BoardRebooted, CommandFailed, CommandTimeout, UBootShell


def test_boot_loader(uboot: UBootShell) -> None:
    """U-Boot runs commands, and tells which failed."""
    assert uboot.run("version").stdout.startswith("U-Boot 20")
    assert uboot.run("printenv bootdelay").stdout == "bootdelay=2"
    assert uboot.run("setenv answer 'forty two'; printenv answer").stdout == "answer=forty two"
    assert uboot.run("if true; then echo yes; fi").stdout == "yes"
    with pytest.raises(CommandFailed, match=r"(?s)'printenv nothing' exited 1.*not defined"):
        uboot.run("printenv nothing")
    assert uboot.run("true; false", check=False).exited == 1


def test_each_command_runs_once(uboot: UBootShell) -> None:
    """No command is repeated, as U-Boot does after Enter alone."""
    uboot.run("setenv count 0")
    for number in range(1, 11):
        uboot.run("setexpr count ${count} + 1")
        assert int(uboot.run("printenv count").stdout.removeprefix("count="), 16) == number
    uboot.login()
    assert uboot.run("printenv count").stdout == "count=a"


def test_boot_loader_waits_for_what_takes_long(uboot: UBootShell) -> None:
    """A command that does not end is a timeout; the next one begins with Ctrl-C."""
    with pytest.raises(CommandTimeout, match="sleep 60"):
        uboot.run("sleep 60", timeout=1)
    assert uboot.run("echo again").stdout == "again"
    with pytest.raises(ValueError, match="No closing quotation"):
        uboot.run("echo 'open")


def test_reset_in_the_boot_loader(uboot: UBootShell) -> None:
    """A reset is seen, and `login` stops the boot again; what was not saved is gone."""
    with pytest.raises(BoardRebooted, match=r"(?s)during 'reset'.*U-Boot 20"):
        uboot.run("reset")
    assert not uboot.login().run("printenv answer", check=False).ok

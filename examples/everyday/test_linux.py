"""Commands, network and power of a board that has booted."""

from __future__ import annotations

from urllib.request import urlopen

import pytest
from boards import Product
from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

from pytest_jumpstarter import CommandFailed, MetricRecorder, Shell


def test_command(linux: Shell) -> None:
    """A command has output, without the prompt and the echo of what was typed."""
    assert linux.run("uname -s").stdout == "Linux"


def test_exit_code(linux: Shell) -> None:
    """A command that fails has an exit code."""
    assert linux.run("exit_of() { return 3; }; exit_of", check=False).exited == 3


def test_many_lines(linux: Shell) -> None:
    """Output of many lines is complete."""
    assert linux.run("seq 1 200").lines == [str(number) for number in range(1, 201)]


def test_failing_command(linux: Shell) -> None:
    """A command that fails ends a test, unless the test expects it; the shell answers the next one."""
    with pytest.raises(CommandFailed, match="No such file"):
        linux.run("cat /no/such/file")
    assert linux.run("echo hello").stdout == "hello"


@pytest.mark.usefixtures("linux")
def test_web_server(dut: Product) -> None:
    """The board's web server answers, through the tunnel to the exporter."""
    with TcpPortforwardAdapter(client=dut.http) as (host, port), urlopen(f"http://{host}:{port}/", timeout=10) as page:
        assert page.status == 200


@pytest.mark.usefixtures("linux")
def test_power(dut: Product, record_metric: MetricRecorder) -> None:
    """The board needs no more power than it should."""
    reading = next(dut.power.read())
    record_metric("power", reading.voltage * reading.current, unit="W", max=15)


def test_both_boards(linux: Shell, gateway_linux: Shell) -> None:
    """Board and gateway have a shell each."""
    assert gateway_linux.run("echo from the gateway").stdout == "from the gateway"
    assert linux.run("echo from the board").stdout == "from the board"

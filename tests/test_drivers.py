"""Jumpstarter's own driver packages work unchanged: one exporter with many, leased and used through our tunnel."""

from __future__ import annotations

import gc
import gzip
import os
import re
import socket
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from threading import Thread
from typing import BinaryIO, cast

import pytest
from grpc.aio import UnaryStreamCall
from runs import until

from pytest_jumpstarter import Device
from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.from_controller import ControllerSource
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms

PATIENCE = 30.0
EXAMPLES = Path(__file__).parent.parent / "examples"
LAB_FILE = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: bench-1}}
export:
  serial: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{url: {tty}}}}}
  tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}
  echo: {{type: jumpstarter_driver_network.driver.EchoNetwork}}
  flasher: {{type: jumpstarter_driver_opendal.driver.MockFlasher}}
  files: {{type: jumpstarter_driver_opendal.driver.Opendal, config: {{scheme: fs, kwargs: {{root: {root}}}}}}}
  can-a: {{type: jumpstarter_driver_can.driver.Can, config: {{interface: virtual, channel: bus}}}}
  can-b: {{type: jumpstarter_driver_can.driver.Can, config: {{interface: virtual, channel: bus}}}}
  shell:
    type: jumpstarter_driver_shell.driver.Shell
    config:
      methods:
        greet: echo "hello $1, $NAME"; echo careful >&2; exit 3
        wait_for: echo waiting; until test -e "$1"; do sleep 0.05; done; echo done
  rack:
    children:
      shelf:
        type: jumpstarter_driver_composite.driver.Composite
        children:
          power: {{type: jumpstarter_driver_power.driver.MockPower}}
"""


@pytest.fixture(scope="module")
def terminal() -> Iterator[tuple[BinaryIO, str]]:
    """Return a board's end of a serial line, and the path of the other."""
    board, host = os.openpty()
    tty.setraw(host)
    with os.fdopen(board, "r+b", buffering=0) as file:
        yield cast(BinaryIO, file), os.ttyname(host)
    os.close(host)


@pytest.fixture(scope="module")
def upper_case_port() -> Iterator[int]:
    """Serve TCP, and return the port: what comes in goes back in upper case, once the client has sent its last."""

    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as incoming:
                if (data := incoming.read()) == b"stop":
                    return
                connection.sendall(data.upper())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=serve, args=[listener])
        server.start()
        yield listener.getsockname()[1]
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"stop")
        server.join(PATIENCE)


@pytest.fixture(scope="module")
def bench(
    terminal: tuple[BinaryIO, str], upper_case_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """Lease the exporter as a run does."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "root").mkdir()
    (folder / "lab.yaml").write_text(LAB_FILE.format(tty=terminal[1], port=upper_case_port, root=folder / "root"))
    with Lab([folder / "lab.yaml"]) as lab, ExitStack() as stack:
        config = ClientConfig.load(lab.client_config, environ={})
        client = stack.enter_context(Client.from_config(config))
        source = ControllerSource(client, config, events=Events(), ids=LeaseIds(), terms=Terms(), healths={})
        stack.callback(source.close)
        yield stack.enter_context(source.device(Wanted(role="dut", exporter="bench-1")))


def test_serial_port(bench: Device, terminal: tuple[BinaryIO, str]) -> None:
    """A console on jumpstarter-driver-pyserial reads and writes a terminal; so does the driver's own session."""
    board = terminal[0]
    console = bench.console()
    console.sendline("root")
    assert board.read(5) == b"root\n"  # now the port is open: pyserial drops what came before
    board.write(b"Password: ")
    console.expect("Password: ")
    console.close()
    with bench.serial.pexpect() as theirs:
        theirs.sendline(b"exit")
        assert board.read(5) == b"exit\n"
        board.write(b"\xff\x00 login: ")
        theirs.expect_exact(b"\xff\x00 login: ", timeout=PATIENCE)


def test_tcp(bench: Device) -> None:
    """A forwarded port of jumpstarter-driver-network carries data both ways, and the end of one way alone."""
    from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

    words = b"a line of text\n" * 20_000
    with TcpPortforwardAdapter(client=bench.tcp) as address, socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(words)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            assert answer.read() == words.upper()


def test_echo(bench: Device) -> None:
    """A stream brings back 3 MiB, byte for byte, while more is sent."""
    sent = Random(1).randbytes(3 << 20)
    received = bytearray()
    with bench.echo.stream() as stream:
        for start in range(0, len(sent), 1 << 18):
            stream.send(sent[start : start + (1 << 18)])
            received += stream.receive()
        while len(received) < len(sent):
            received += stream.receive()
    assert received == sent


def test_flash(bench: Device, tmp_path: Path) -> None:
    """What jumpstarter-driver-opendal's flasher wrote is what it dumps, of each target; a packed image is unpacked."""
    plain, packed, dump = tmp_path / "plain", tmp_path / "packed.gz", tmp_path / "dump"
    plain.write_bytes(Random(1).randbytes(5 << 20))
    packed.write_bytes(gzip.compress(plain.read_bytes()[::-1], compresslevel=1))
    bench.flasher.flash(plain)
    bench.flasher.flash(packed, target="boot", compression="gzip")
    bench.flasher.dump(dump)
    assert dump.read_bytes() == plain.read_bytes()
    bench.flasher.dump(dump, target="boot")
    assert dump.read_bytes() == plain.read_bytes()[::-1]


def test_files(bench: Device) -> None:
    """jumpstarter-driver-opendal's storage writes, reads, lists and measures files."""
    bench.files.create_dir("images/")
    bench.files.write_bytes("images/one", b"\x00\x01" * 100_000)
    assert bench.files.read_bytes("images/one") == b"\x00\x01" * 100_000
    assert bench.files.stat("images/one").content_length == 200_000
    assert "images/one" in bench.files.list("images/")


def test_can(bench: Device) -> None:
    """Frames pass between two drivers on python-can's virtual bus, once and periodically."""
    import can

    sender, receiver = bench.drivers["can-a"], bench.drivers["can-b"]
    sender.send(can.Message(arbitration_id=0x123, data=b"\x01\x02", is_extended_id=False))
    frame = receiver.recv(timeout=PATIENCE)
    assert (frame.arbitration_id, bytes(frame.data), frame.is_extended_id) == (0x123, b"\x01\x02", False)
    task = sender.send_periodic(can.Message(arbitration_id=7, data=b"tick"), 0.01)
    assert [receiver.recv(timeout=PATIENCE).arbitration_id for _ in range(3)] == [7, 7, 7]
    task.stop()


def test_shell(bench: Device, capfd: pytest.CaptureFixture[str]) -> None:
    """jumpstarter-driver-shell passes arguments and environment, and gives output, errors and exit status back."""
    assert bench.shell.greet("board", NAME="tester") == 3
    assert capfd.readouterr()[:2] == ("hello board, tester\n", "careful\n")


@pytest.mark.parametrize("end", ["break", "error"])
def test_streaming_call_that_is_left(bench: Device, tmp_path: Path, end: str) -> None:
    """A stream that nobody reads any more ends, and nothing of it is kept, whether a test leaves it or fails in it."""

    def calls() -> int:
        gc.collect()
        return sum(isinstance(each, UnaryStreamCall) for each in gc.get_objects())

    def leave() -> None:
        for answer in bench.shell.streamingcall("call_method", "wait_for", {}, str(signal)):
            assert answer
            if end == "error":
                raise ValueError(answer)
            return

    before, signal = calls(), tmp_path / "signal"
    for _ in range(5):
        with suppress(ValueError):
            leave()
    until(lambda: calls() <= before, timeout=20)
    signal.touch()


def test_streaming_call(bench: Device, tmp_path: Path) -> None:
    """A streaming call gives each answer when it comes, not when all are there."""
    signal = tmp_path / "signal"
    answers = bench.shell.streamingcall("call_method", "wait_for", {}, str(signal))
    assert next(answers) == ["waiting\n", "", None]
    signal.touch()
    *_, (last, _, status) = answers
    assert (last, status) == ("done\n", 0)


def test_composite(bench: Device) -> None:
    """A driver two levels down is an attribute of an attribute, and has a dotted path; its readings are a stream."""
    power = bench.rack.shelf.power
    assert power is bench.drivers["rack.shelf.power"]
    power.on()
    assert [(reading.voltage, reading.current) for reading in power.read()] == [(0.0, 0.0), (5.0, 2.0)]


def test_error_of_a_driver(bench: Device) -> None:
    """What a driver raises is Jumpstarter's own error, as its documentation has it."""
    from jumpstarter.client.core import DriverError

    with pytest.raises(DriverError, match="NotFound"):
        bench.files.stat("nothing-here")


@pytest.mark.parametrize(("example", "count"), [("qemu", 6), ("linux", 12)])
def test_qemu_example_says_what_is_missing(tmp_path: Path, example: str, count: int) -> None:
    """Where there is no QEMU, the tests of these examples are skipped, and the reason names it and the cure."""
    (tmp_path / "bin").mkdir()
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider"]
    environ = os.environ | {"PATH": str(tmp_path / "bin")}
    shown = subprocess.run(
        command, cwd=EXAMPLES / example, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    ).stdout
    assert "qemu-system-aarch64, qemu-img" in shown
    assert "apt install" in shown
    assert re.search(rf"^=+ {count} skipped in", shown, re.MULTILINE)

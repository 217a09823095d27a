"""The virtual board through real leases, with Jumpstarter's own client."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jumpstarter.config.client import ClientConfigV1Alpha1

from pytest_jumpstarter.lab import Lab

from .peers import TIMEOUT, Peer


@contextmanager
def leased(config_file: Path, selector: str) -> Iterator[Any]:
    """Lease a virtual board and yield Jumpstarter's client of its one driver."""
    with Peer(config_file) as peer:
        name = peer.create(selector=selector).name
        peer.await_condition(name, "Ready", "True", "Ready")  # Jumpstarter's client would look again after 5 s only
        yield from _connected(config_file, name)
        peer.delete(name)
        peer.await_condition(name, "Ready", "False", "Released")


def _connected(config_file: Path, name: str) -> Iterator[Any]:
    config = ClientConfigV1Alpha1.from_file(config_file)
    with config.lease(lease_name=name.rpartition("/")[2]) as lease, lease.connect() as client:
        yield client.board


@pytest.fixture(scope="module")
def board(lab: Lab) -> Iterator[Any]:
    """Hold one lease of the board for this file."""
    with leased(lab.config_dir / "clients" / "other.yaml", "board=virtual") as board:
        yield board


@pytest.fixture
def console(board: Any) -> Iterator[Any]:
    """Open the board's console, with its power off and all that it said before taken away."""
    board.power.off()
    with board.console.pexpect() as console:
        console.timeout = TIMEOUT
        yield console
    board.power.off()


def login(board: Any, console: Any) -> None:
    """Boot and log in."""
    board.power.on()
    console.expect_exact("login: ")
    console.send("root\r")
    console.expect_exact("board:~# ")


def flash(board: Any, tmp_path: Path, content: bytes) -> Path:
    """Flash an image."""
    image = tmp_path / "image.bin"
    image.write_bytes(content)
    board.storage.flash(str(image))
    return image


def test_power_reads(board: Any) -> None:
    """The supply measures current only while the power is on."""
    board.power.on()
    assert [(it.voltage, it.current) for it in board.power.read()] == [(5.0, 0.4)]
    board.power.off()
    assert [(it.voltage, it.current) for it in board.power.read()] == [(0.0, 0.0)]


def test_flash_and_boot(board: Any, console: Any, tmp_path: Path) -> None:
    """What was flashed is what boots."""
    flash(board, tmp_path, b"4.2.0\npayload")
    board.power.on()
    console.expect_exact("Booting image 4.2.0")
    console.expect_exact("login: ")


def test_shell(board: Any, console: Any, tmp_path: Path) -> None:
    """The board's shell answers over the console."""
    flash(board, tmp_path, b"4.2.1\n")
    login(board, console)
    console.send("version\r")
    console.expect_exact("4.2.1\r\nboard:~# ")


def test_blank(board: Any, console: Any, tmp_path: Path) -> None:
    """A board with an empty image says that there is nothing to boot."""
    flash(board, tmp_path, b"")
    board.power.on()
    console.expect_exact("no bootable image")


def test_flash_a_lot(board: Any, tmp_path: Path) -> None:
    """An image of some MiB comes back as it was."""
    image = flash(board, tmp_path, b"5.0\n" + random.Random(1).randbytes(8 * 1024 * 1024 + 7))
    back = tmp_path / "back.bin"
    board.storage.dump(str(back))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (image, back)]
    assert digests[0] == digests[1]


def test_no_partitions(board: Any, tmp_path: Path) -> None:
    """The board refuses a partition, which it does not have."""
    image = tmp_path / "image.bin"
    image.write_bytes(b"1\n")
    with pytest.raises(ExceptionGroup) as caught:  # Jumpstarter's client wraps what goes wrong while it uploads
        board.storage.flash(str(image), target="boot")
    assert caught.group_contains(ValueError, match="no partition 'boot'")


def test_second_reader_takes_over(board: Any, console: Any, tmp_path: Path) -> None:
    """A second console stream gets what the board says from then on."""
    flash(board, tmp_path, b"1.0\n")
    login(board, console)
    with board.console.pexpect() as second:
        second.timeout = TIMEOUT
        second.send("version\r")
        second.expect_exact("1.0\r\nboard:~# ")


def test_next_lease(lab: Lab, tmp_path: Path) -> None:
    """The flash outlives a lease; power and console begin anew."""
    with leased(lab.client_config, "board=spare") as board:
        flash(board, tmp_path, b"6.0\n")
        board.power.on()
    with leased(lab.client_config, "board=spare") as board:
        assert [it.voltage for it in board.power.read()] == [0.0]
        with board.console.pexpect() as console:
            console.timeout = TIMEOUT
            board.power.on()
            console.expect_exact("Booting image 6.0")


def test_jumpstarters_own_lease(lab: Lab) -> None:
    """Jumpstarter's client leases by selector, drives and releases, with nobody's help."""
    config = ClientConfigV1Alpha1.from_file(lab.client_config)
    with config.lease(selector="board=spare", duration=timedelta(minutes=5)) as lease:
        with lease.connect() as client:
            client.board.power.on()
            assert [it.voltage for it in client.board.power.read()] == [5.0]
        name = lease.name
    with Peer(lab.client_config) as peer:
        peer.await_condition(f"namespaces/lab/leases/{name}", "Ready", "False", "Released")


def test_many_connections(board: Any) -> None:
    """Driver calls from several threads at once all come back."""
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(len(list(board.power.read())))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert results == [1] * 8

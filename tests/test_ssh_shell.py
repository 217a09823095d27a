"""`SshShell` against a real sshd on loopback, through Jumpstarter's SSH driver and the tunnel to its exporter."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import until
from shells import bench_of

from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout
from pytest_jumpstarter.device.ssh_shell import SshShell

pytest.importorskip("jumpstarter_driver_ssh")

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
EXPORT = """\
  ssh:
    type: jumpstarter_driver_ssh.driver.SSHWrapper
    config: {{default_username: {user}, ssh_identity_file: {folder}/user}}
    children:
      tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}
  nobody:
    type: jumpstarter_driver_ssh.driver.SSHWrapper
    config: {{default_username: {user}}}
    children:
      tcp: {{type: jumpstarter_driver_network.driver.TcpNetwork, config: {{host: 127.0.0.1, port: {port}}}}}
"""
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Serve SSH on loopback; return the port, and the folder of its keys."""
    if SSHD is None:
        pytest.skip("no sshd: apt install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of Debian locks itself up before a login
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL) as server:
        until(lambda: _is_open(port), timeout=30)
        yield port, folder
        server.terminate()


@pytest.fixture(scope="module")
def shells(port: tuple[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SshShell]]:
    """Return a shell with the right key, and one without any."""
    export = EXPORT.format(port=port[0], folder=port[1], user=getpass.getuser())
    with bench_of(export, tmp_path_factory.mktemp("bench")) as device:
        yield {name: SshShell(device.drivers[name], timeout=30, name=name) for name in ("ssh", "nobody")}


@pytest.fixture
def ssh(shells: dict[str, SshShell]) -> SshShell:
    """Return the shell with the right key."""
    return shells["ssh"]


def test_output_errors_and_exit_code(ssh: SshShell) -> None:
    """A result has stdout and stderr apart, and the exit code."""
    result = ssh.run('echo out; echo "it\'s" >&2; exit 3', check=False)
    assert (result.stdout, result.stderr, result.exited, result.kernel) == ("out", "it's", 3, ())
    with pytest.raises(CommandFailed, match=r"(?s)exited 3; it said:\n  out\n  why"):
        ssh.run("echo out; echo why >&2; exit 3")


@pytest.mark.parametrize("command", ["exit 255", "(exit 255)"])
def test_exit_code_of_ssh_itself(ssh: SshShell, command: str) -> None:
    """A command that exits 255 did so; it is not taken for a connection that broke."""
    result = ssh.run(f"echo why >&2; {command}", check=False)
    assert (result.exited, result.stderr) == (255, "why")


def test_connection_that_is_refused(shells: dict[str, SshShell]) -> None:
    """Where there is no connection, that is said, with the words of ssh; nobody is asked for a password."""
    with pytest.raises(ConnectionError, match=r"(?s)no connection for 'true'.*Permission denied"):
        shells["nobody"].run("true", check=False)


def test_timeout(ssh: SshShell) -> None:
    """A command that does not end is a CommandTimeout with what it said."""
    with pytest.raises(CommandTimeout, match=r"(?s)did not end within 3s; it said:\n  begun"):
        ssh.run("echo begun; sleep 60", timeout=3)


def test_wait_until(ssh: SshShell, tmp_path: Path) -> None:
    """A command is run again until it succeeds."""
    ssh.run(f"(sleep 0.7; touch {tmp_path}/x) >/dev/null 2>&1 &")
    began = time.monotonic()
    assert ssh.wait_until(f"test -e {tmp_path}/x", timeout=20, interval=0.1).ok
    assert time.monotonic() - began < 20


def test_put_and_get(ssh: SshShell, tmp_path: Path) -> None:
    """Files of any size go both ways."""
    data = secrets.token_bytes(3 << 20)
    ssh.put(data, f"{tmp_path}/a 'b", mode=0o640)
    assert (tmp_path / "a 'b").stat().st_mode & 0o777 == 0o640
    assert ssh.get(f"{tmp_path}/a 'b") == data
    with pytest.raises(CommandFailed, match="No such file"):
        ssh.get(f"{tmp_path}/nothing")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""`python -m pytest_jumpstarter.lab` as a person or a script runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .peers import TIMEOUT, Peer, wait_for
from .processes import children, is_alive

POWER = """\
metadata: {name: mock, labels: {kind: mock}}
export: {power: {type: jumpstarter_driver_power.driver.MockPower}}
"""
EXTERNAL = "metadata: {name: ext}\n"


class Command:
    """A lab that runs; `lines` are what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        return self._output.read_text().splitlines()

    def await_line(self, text: str) -> str:
        """Return the first line that contains `text`."""
        line: str = wait_for(
            lambda: next((line for line in self.lines if text in line), None), f"{text!r} in {self.lines}"
        )
        return line


@contextmanager
def running(tmp_path: Path, *arguments: str) -> Iterator[Command]:
    """Run a lab."""
    output = tmp_path / "output.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_jumpstarter.lab", *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        )
    try:
        yield Command(process, output)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def refused(*arguments: str) -> str:
    """Run a lab that must not start; return its one line of error."""
    command = [sys.executable, "-m", "pytest_jumpstarter.lab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_ready(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """The ready line comes at once, names the endpoint, and counts the exporters that the lab runs itself."""
    configs = tmp_path / "configs"
    with running(tmp_path, str(lab_file(f"{POWER}---\n{EXTERNAL}")), "--config-dir", str(configs)) as lab:
        line = lab.await_line("lab ready: ")
        with Peer(configs / "clients" / "default.yaml") as peer:
            assert line == f"lab ready: {peer.endpoint}, 1 exporters"
            assert peer.exporter("mock").online
        assert (configs / "exporters" / "ext.yaml").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stop(tmp_path: Path, lab_file: Callable[[str], Path], number: signal.Signals) -> None:
    """A signal ends the lab: exit status 0, no process, no file."""
    with running(tmp_path, str(lab_file(POWER)), "--config-dir", str(tmp_path / "configs")) as lab:
        lab.await_line("lab ready: ")
        exporters = list(children(lab.process.pid))
        lab.process.send_signal(number)
        assert lab.process.wait(TIMEOUT) == 0
        assert exporters
        assert not any(map(is_alive, exporters))
        assert not (tmp_path / "configs").exists()


def test_stop_while_starting(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """A signal before the lab is ready ends it just as well."""
    with running(tmp_path, str(lab_file(POWER)), "--config-dir", str(tmp_path / "configs")) as lab:
        exporters = wait_for(lambda: children(lab.process.pid), "an exporter process")
        lab.process.send_signal(signal.SIGTERM)
        lab.process.wait(TIMEOUT)
        wait_for(lambda: not any(map(is_alive, exporters)), "the end of the exporters")
        assert not (tmp_path / "configs").exists()


def test_kill_with_lease(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """A killed lab takes its exporters with it, in the middle of a lease too."""
    with running(tmp_path, str(lab_file(POWER)), "--config-dir", str(tmp_path / "configs")) as lab:
        lab.await_line("lab ready: ")
        with Peer(tmp_path / "configs" / "clients" / "default.yaml") as peer:
            peer.create(exporter_name="mock")
            wait_for(lambda: peer.exporter("mock").status == 4, "LEASE_READY")
        exporters = list(children(lab.process.pid))
        lab.process.kill()
        wait_for(lambda: not any(map(is_alive, exporters)), "the end of the exporters")


def test_temporary_configs(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """Without a folder the lab makes one, and says where it is."""
    with running(tmp_path, str(lab_file(EXTERNAL))) as lab:
        folder = Path(lab.await_line("client config: JMP_CLIENT_CONFIG_HOME=").partition("=")[2])
        assert (folder / "config.yaml").exists()
        lab.await_line("lab ready: ")
        lab.process.terminate()
        lab.process.wait(TIMEOUT)
        assert not folder.parent.exists()


def test_exporter_dies(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """The death of an exporter is said, and that it was started again."""
    with running(tmp_path, str(lab_file(POWER))) as lab:
        lab.await_line("lab ready: ")
        os.kill(next(iter(children(lab.process.pid))), signal.SIGKILL)
        assert lab.await_line("died") == "exporter mock died: it said nothing (killed by SIGKILL)"
        lab.await_line("exporter mock started again")


def test_clients(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """Further clients get configs of their own; `default` is always there."""
    configs = tmp_path / "configs"
    arguments = ["--config-dir", str(configs), "--client", "ci", "--client", "other", "--client", "ci"]
    with running(tmp_path, str(lab_file(EXTERNAL)), *arguments) as lab:
        lab.await_line("lab ready: ")
        assert sorted(path.name for path in (configs / "clients").iterdir()) == [
            "ci.yaml",
            "default.yaml",
            "other.yaml",
        ]


def test_assign_delay(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """`--assign-delay` holds each new lease back."""
    configs = tmp_path / "configs"
    arguments = ["--config-dir", str(configs), "--assign-delay", "400ms"]
    with running(tmp_path, str(lab_file(POWER)), *arguments) as lab:
        lab.await_line("lab ready: ")
        with Peer(configs / "clients" / "default.yaml") as peer:
            begin = time.monotonic()
            lease = peer.create(selector="kind=mock")
            peer.await_condition(lease.name, "Ready", "True", "Ready")
            assert time.monotonic() - begin >= 0.4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nope.yaml"], "lab: lab file nope.yaml does not exist\n"),
        ([os.devnull], f"lab: there is no exporter in {os.devnull}\n"),
        (["nope.yaml", "--assign-delay", "soon"], "'soon' is not a duration; write 90, 90s, 15m, 1h30m or HH:MM:SS\n"),
    ],
)
def test_refused(arguments: list[str], text: str) -> None:
    """A command line that cannot work is exit status 2, and the last line of error says why."""
    assert refused(*arguments).endswith(text)


def test_bad_client(lab_file: Callable[[str], Path]) -> None:
    """A client's name that cannot be one is refused."""
    assert refused(str(lab_file(EXTERNAL)), "--client", "../x").startswith("lab: --client '../x': a client's name is ")


def test_one_line(lab_file: Callable[[str], Path]) -> None:
    """A lab that does not start says so in one line."""
    file = lab_file("metadata: {name: a}\nexport: {p: {type: nonesuch.Driver}}")
    words = "driver 'p' (nonesuch.Driver): module nonesuch is not installed; pip install nonesuch"
    assert refused(str(file)) == f"lab: {file}:1: exporter a does not start: {words}\n"


def test_foreign_config(tmp_path: Path, lab_file: Callable[[str], Path]) -> None:
    """A folder with a person's own configs is left alone."""
    (tmp_path / "config.yaml").write_text("mine")
    error = refused(str(lab_file(EXTERNAL)), "--config-dir", str(tmp_path))
    assert "exists and was not written by a lab; name another --config-dir" in error
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_no_temporary_files(lab_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A lab that stopped has left nothing in the folder for temporary files."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:  # short, for sockets
        monkeypatch.setenv("TMPDIR", folder)
        with running(tmp_path, str(lab_file(POWER))) as lab:
            lab.await_line("lab ready: ")
            assert os.listdir(folder)
            lab.process.terminate()
            lab.process.wait(TIMEOUT)
            assert not os.listdir(folder)

"""Real peers: the `jmp` command line against our lab, and a real `jmp run` that our fixtures lease."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
import yaml

from pytest_jumpstarter.client.v1 import Client, Exporter, Lease
from pytest_jumpstarter.errors import AlreadyReleased, PermissionDenied
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing.waiting import attempts

RunningExporter = Callable[..., AbstractContextManager[None]]

TIMEOUT = 60.0
WAYS = ("--client-config", "JMP_CLIENT_CONFIG_HOME")


class Jmp:
    """`jmp` as a person runs it, told in one of two ways which lab is meant."""

    def __init__(self, path: Path, lab: Lab, environ: dict[str, str], way: str) -> None:
        is_file = way == "--client-config"
        self._path = path
        self._options = [way, str(lab.client_config)] if is_file else []
        self._environ = environ if is_file else environ | {way: str(lab.config_dir)}

    def run(self, command: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run `jmp COMMAND ARGS` to its end."""
        line = [str(self._path), *command.split(), *self._options, *args]
        return subprocess.run(line, env=self._environ, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def __call__(self, command: str, *args: str) -> str:
        """Return what `jmp COMMAND ARGS` prints; it must succeed."""
        finished = self.run(command, *args)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout


@pytest.fixture(params=WAYS)
def cli(request: pytest.FixtureRequest, jmp: Path, lab: Lab, peer_environ: dict[str, str]) -> Jmp:
    """Return `jmp`, once for each way to tell it the lab."""
    return Jmp(jmp, lab, peer_environ, request.param)


@pytest.fixture
def lease(client: Client, lab: Lab) -> Iterator[Lease]:
    """Return a lease on board-2 that is Ready, and see to it that it ends, whoever owns it by then."""
    made = client.create_lease(lease_id=f"peer-{secrets.token_hex(4)}", exporter_name="board-2", duration=600)
    yield until_ready(client, made.name)
    with Client.from_config(lab.config_dir / "clients" / "other.yaml") as other:
        for owner in (client, other):
            with suppress(AlreadyReleased, PermissionDenied):
                owner.delete_lease(made.name)


def until_ready(client: Client, name: str) -> Lease:
    """Wait for the lease, for half a minute at most, and return it."""
    for _ in attempts(30):
        lease = client.get_lease(name)
        if lease.is_ready:
            return lease
    pytest.fail(f"lease {name} is not ready: {lease}")


def test_get_exporters(cli: Jmp, lease: Lease) -> None:
    """`get exporters` shows those that match with their labels, and on demand what is online and who holds it."""
    commands = [("--with", "online,status", "-l", "kind!=gateway"), ("--with", "leases", "-o", "yaml")]
    with ThreadPoolExecutor() as pool:
        table, holders = pool.map(lambda args: cli("get exporters", *args), commands)
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}
    assert rows["board-1"] == ["yes", "AVAILABLE", "board=virtual,kind=dut,site=here"]
    assert rows["nobody-1"] == ["no", "UNKNOWN", "board=absent"]  # never seen
    assert "board-2" not in rows
    exporters = {exporter["name"]: exporter for exporter in yaml.safe_load(holders)["exporters"]}
    assert exporters["board-2"]["labels"] == {"board": "virtual", "kind": "gateway"}
    held = exporters["board-2"]["lease"]
    assert (held["name"], held["client"], exporters["board-1"]["lease"]) == (lease.name, "default", None)


def test_get_leases(cli: Jmp, lease: Lease) -> None:
    """`get leases` shows a lease with its owner, its exporter and its conditions."""
    shown = {found["name"]: found for found in json.loads(cli("get leases", "-o", "json"))["leases"]}[lease.name]
    assert (shown["client"], shown["exporter"], shown["duration"]) == ("default", "board-2", 600)
    assert shown["conditions"][-1]["type"] == "Ready"
    assert shown["conditions"][-1]["status"] == "True"


def test_create_lease(cli: Jmp, client: Client) -> None:
    """`create lease` asks for what its options say, and prints a name that is good for everything else."""
    words = ("-l", "board=mock", "--duration", "10m", "-o", "name")
    tags = {"build": "7"}
    made = cli.run("create lease", *words, "--tag", "build=7")
    if "No such option" in made.stderr:  # of a jmp before 0.9
        tags, made = {}, cli.run("create lease", *words)
    assert made.returncode == 0, made.stderr
    name = made.stdout.strip()
    try:
        lease = until_ready(client, name)
        assert (lease.selector, lease.duration, lease.exporter) == ("board=mock", 600, "mock-1")
        assert lease.tags == tags
    finally:
        client.delete_lease(name)


def test_update_duration(cli: Jmp, client: Client, lease: Lease) -> None:
    """`update lease --duration` changes the duration and leaves the rest alone."""
    cli("update lease", lease.name, "--duration", "20m")
    now = client.get_lease(lease.name)
    assert (now.duration, now.client, now.exporter, now.is_ready) == (1200, "default", "board-2", True)


def test_transfer(cli: Jmp, client: Client, lease: Lease) -> None:
    """`update lease --to-client` makes the lease another client's: to use, and to delete."""
    cli("update lease", lease.name, "--to-client", "other")
    now = client.get_lease(lease.name)
    assert (now.client, now.exporter, now.is_ready) == ("other", "board-2", True)
    refused = cli.run("delete leases", lease.name)
    assert refused.returncode == 1
    assert "permission denied" in refused.stderr
    assert client.get_lease(lease.name).is_ready


def test_delete_leases(cli: Jmp, client: Client, lease: Lease) -> None:
    """`delete leases` ends the lease."""
    cli("delete leases", lease.name)
    assert any(client.get_lease(lease.name).is_ended for _ in attempts(10))


def test_shell_by_selector(jmp: Path, lab: Lab, client: Client, peer_environ: dict[str, str]) -> None:
    """`shell --selector -- j power on` leases, drives the board and gives it back, whichever way the lab is told."""
    before = {lease.name for lease in client.list_leases(only_active=False)}
    peers = {"board=mock": Jmp(jmp, lab, peer_environ, WAYS[0]), "kind=dut": Jmp(jmp, lab, peer_environ, WAYS[1])}
    with ThreadPoolExecutor() as pool:  # jmp polls its lease each 5 s, so both wait at once
        shells = list(pool.map(lambda selector: shell(peers[selector], "--selector", selector), peers))
    assert all("power on" in log for log in shells)
    made = [lease for lease in client.list_leases(only_active=False) if lease.name not in before]
    assert {(lease.selector, lease.exporter) for lease in made} == {("board=mock", "mock-1"), ("kind=dut", "board-1")}
    assert all(lease.is_ended for lease in made)


def test_shell_by_lease(cli: Jmp, client: Client, lease: Lease) -> None:
    """`shell --lease -- j power on` drives the board of that lease, which stays as it was."""
    assert "power on" in shell(cli, "--lease", lease.name)
    assert client.get_lease(lease.name).is_ready


def shell(cli: Jmp, *args: str) -> str:
    """Return the log of a `jmp shell` in which `j power on` ran; what the exporter logs is in it."""
    finished = cli.run("shell", *args, "--exporter-logs", "--", "j", "power", "on")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def until_exporter(client: Client, name: str, condition: Callable[[Exporter], bool]) -> Exporter:
    """Wait for the exporter to be as `condition` says, for half a minute at most, and return it."""
    for _ in attempts(30):
        exporter = client.get_exporter(name)
        if condition(exporter):
            return exporter
    pytest.fail(f"never came to pass: {exporter}")


def test_external_exporter(
    suite: pytest.Pytester, lab: Lab, client: Client, running_exporter: RunningExporter, tmp_path: Path
) -> None:
    """A real `jmp run` joins with the config that the lab wrote; our fixtures drive it; stopped, it is offline."""
    config, log = tmp_path / "guest-1.yaml", tmp_path / "log"
    generated = yaml.safe_load((lab.config_dir / "exporters" / "guest-1.yaml").read_text())
    export = {"power": {"type": "jumpstarter_driver_power.driver.MockPower"}}
    config.write_text(yaml.safe_dump(generated | {"export": export}))
    suite.makepyfile(
        """
        def test_it(dut):
            assert (dut.exporter.name, dut.exporter.labels["board"]) == ("guest-1", "guest")
            dut.power.on()
            assert [reading.voltage for reading in dut.power.read()] == [0.0, 5.0]
        """
    )
    with running_exporter(config, log):
        until_exporter(client, "guest-1", lambda exporter: exporter.status == "AVAILABLE")
        suite.runpytest("--jmp-selector=board=guest").assert_outcomes(passed=1)
        assert "power on" in log.read_text()
    until_exporter(client, "guest-1", lambda exporter: not exporter.online and exporter.status == "OFFLINE")
    gone = suite.runpytest("--jmp-selector=board=guest", "--jmp-wait=1s")
    gone.stdout.fnmatch_lines(["*no exporter for board=guest within *: 1 match, 0 leased, 1 offline"])

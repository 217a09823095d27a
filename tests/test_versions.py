"""
Old and new together: the plugin in each environment leases exporters of each Jumpstarter that labs run.

`.ci/versions` makes the environments, and names them after what must be in them: `exporter-0.7.4` has that `jmp`,
`plugin-jumpstarter0.8.1-pytest8.3.0-python3.11` the plugin beside those. The lab is this environment's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import exporter_document
from runs import environ_of, exporting, until

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab

FOLDER = Path(os.environ.get("PYTEST_VERSIONS", "/nonexistent"))
EXPORTERS = sorted(folder.name for folder in FOLDER.glob("exporter-*"))
PLUGINS = sorted(folder.name for folder in FOLDER.glob("plugin-*"))
DRIVERS = {
    "power": {"type": "jumpstarter_driver_power.driver.MockPower"},
    "console": {"type": "jumpstarter_driver_pyserial.driver.PySerial", "config": {"url": "loop://"}},
    "echo": {"type": "jumpstarter_driver_network.driver.EchoNetwork"},
    "storage": {"type": "jumpstarter_driver_opendal.driver.MockFlasher"},
    "rack": {"children": {"power": {"type": "jumpstarter_driver_power.driver.MockPower"}}},
}
SUITE = """
import platform
from importlib.metadata import version

def test_environment():
    minor = platform.python_version().rpartition(".")[0]
    print(f"plugin-jumpstarter{version('jumpstarter')}-pytest{version('pytest')}-python{minor}")

def test_calls(dut):
    dut.power.on()
    assert [reading.voltage for reading in dut.rack.power.read()] == [0.0, 5.0]

def test_console(console):
    console.sendline("hello")
    console.expect("hello")

def test_stream(dut):
    with dut.echo.stream() as stream:
        stream.send(bytes(100_000))
        received = 0
        while received < 100_000:
            received += len(stream.receive())

def test_flash(dut, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"image" * 1_000_000)
    dut.storage.flash(str(image))
    dut.storage.dump(str(tmp_path / "dump"))
    assert (tmp_path / "dump").read_bytes() == image.read_bytes()
"""
NO_STATUS = "is older than Jumpstarter 0.8: it reports no status"
NO_TAGS = "jumpstarter-protocol installed here is older than Jumpstarter 0.9: leases have no tags"

pytestmark = pytest.mark.skipif(not PLUGINS, reason="PYTEST_VERSIONS is not set; .ci/versions makes what it names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The lab that all exporters have joined, and a look at it."""

    lab: Lab
    client: Client


def show(log: Path) -> None:
    """Print what an exporter said, which pytest shows if something fails."""
    print(f"{log.name}:\n{log.read_text()}")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Serve a lab that an exporter of each version has joined."""
    folder = tmp_path_factory.mktemp("versions")
    documents = [exporter_document(name, f"version: {name}", None) for name in EXPORTERS]
    (folder / "lab.yaml").write_text("---\n".join(documents))
    with Lab([folder / "lab.yaml"]) as lab, Client.from_config(lab.client_config) as client, ExitStack() as stack:
        for name in EXPORTERS:
            jmp, config = FOLDER / name / "bin" / "jmp", folder / f"{name}.yaml"
            joining = yaml.safe_load((lab.config_dir / "exporters" / f"{name}.yaml").read_text())
            config.write_text(yaml.safe_dump(joining | {"export": DRIVERS}))
            log = folder / f"{name}.log"
            stack.callback(show, log)
            stack.enter_context(exporting(jmp, environ_of(jmp, home=folder), config, log))
        until(lambda: all(exporter.online for exporter in client.list_exporters()), timeout=60)
        yield Versions(lab=lab, client=client)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_leases_and_drives(plugin: str, versions: Versions, tmp_path: Path) -> None:
    """Calls, console, stream and flash work with each exporter; what an old peer lacks is one line of output."""
    (tmp_path / "test_board.py").write_text(SUITE)
    command = [str(FOLDER / plugin / "bin" / "python"), "-m", "pytest", "-v", "-rP", "-p", "no:cacheprovider"]
    options = [f"--jmp-client={versions.lab.client_config}", "--jmp-each=version", "--jmp-wait=60s"]
    ran = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    print(ran.stdout, ran.stderr)
    assert f"= {1 + 4 * len(EXPORTERS)} passed" in ran.stdout
    assert all(f"::test_flash[{exporter}] PASSED" in ran.stdout for exporter in EXPORTERS)
    assert f"\n{plugin}\n" in ran.stdout
    assert ran.stdout.count(NO_STATUS) == sum("exporter-0.7" in exporter for exporter in EXPORTERS)
    assert ran.stdout.count(NO_TAGS) == ("jumpstarter0.8" in plugin)
    assert list(versions.client.list_leases()) == []


@pytest.mark.parametrize("plugin", [name for name in PLUGINS if "jumpstarter0.8" in name])
def test_lab_says_what_it_needs(plugin: str, tmp_path: Path) -> None:
    """Beside Jumpstarter 0.8 the embedded lab does not start, and says why and what to do."""
    (tmp_path / "test_board.py").write_text("def test_it(dut): pass")
    (tmp_path / "lab.yaml").write_text(exporter_document("board-1", "board: virtual"))
    command = [str(FOLDER / plugin / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider"]
    options = ["--jmp-lab=lab.yaml", "--jmp-selector=board=virtual"]
    ran = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "\nthe embedded lab needs jumpstarter-protocol 0.9 or later, and the one installed is older; " in ran.stdout
    assert ran.returncode == 1

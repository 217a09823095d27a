"""The lab that most tests lease from, and the ways to run a suite against it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faulty import FaultyLab, counting, faulty_lab, prepare
from mutations import wanted
from packaging.utils import canonicalize_name
from runs import FEW_PLUGINS, environ_of, exporting, until

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.client.v1.tls import ClosingSocket
from pytest_jumpstarter.device.exporter_connection import warm_up
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.masking import known

ssl.SSLContext.sslsocket_class = ClosingSocket  # also for libraries: their warning would meet any later test

if TYPE_CHECKING:
    from report_browser import Reader
    from selenium.webdriver import Chrome


def pytest_report_header() -> list[str]:
    """Show the seed of random answers (test_fuzz.py) if it was chosen."""
    number, seed = wanted()
    return [f"random answers: {number} for each test, seed {seed}"] if "PYTEST_JUMPSTARTER_FUZZ" in os.environ else []


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("truth", "weather"))


# pytester takes back what an inner run imported, and these cannot be imported twice in one process.
warm_up()
for name in ("composite", "opendal", "power", "pyserial"):
    import_module(f"jumpstarter_driver_{name}.client")

VIRTUAL_BOARD = """\
  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}
  power: {ref: board.power}
  console: {ref: board.console}
  storage: {ref: board.storage}
"""


def exporter_document(name: str, labels: str, export: str | None = VIRTUAL_BOARD, more: str = "") -> str:
    """Return one document of a lab file; without `export` it describes an external exporter."""
    head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n"
    body = f"metadata:\n  name: {name}\n  labels: {{{labels}}}\n"
    return head + body + (f"export:\n{export}" if export else "") + more


@contextmanager
def serve_test_drivers(folder: Path, *documents: str) -> Iterator[Lab]:
    """Serve exporters whose drivers may be modules of this folder; the lab file is written to `folder`."""
    file = folder / "lab.yaml"
    file.write_text("---\n".join(documents))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with Lab([file]) as lab:
            yield lab


HOOKS = """\
hooks:
  beforeLease:
    script: "echo preparing the bench; echo the relay card is stuck >&2; %s"
    timeout: 20
    onFailure: endLease
"""

LAB_FILE = "---\n".join(
    [
        exporter_document("board-1", "board: virtual, kind: dut, site: here"),
        exporter_document("board-2", "board: virtual, kind: gateway"),
        exporter_document("mock-1", "board: mock", "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"),
        exporter_document(
            "hook-1", "board: hooked", "  power: {type: jumpstarter_driver_power.driver.MockPower}\n", HOOKS % "true"
        ),
        exporter_document(
            "hook-2", "board: broken", "  power: {type: jumpstarter_driver_power.driver.MockPower}\n", HOOKS % "false"
        ),
        exporter_document("nobody-1", "board: absent", None),
        exporter_document("guest-1", "board: guest", None),
    ]
)


@pytest.fixture
def all_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let inner runs load all plugins that are installed, as the runs of users do."""
    monkeypatch.delenv("PYTEST_ADDOPTS")


@pytest.fixture(autouse=True)
def _no_lab_of_the_developer(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hide what the environment says of labs, ways to print and xdist: a test says all it needs itself."""
    # CI and BUILD_NUMBER: where they are set, pytest cuts no line
    hidden = ("JMP_", "JUMPSTARTER_", "CI", "BUILD_NUMBER", "PYTEST_ADDOPTS", "PYTEST_XDIST")
    for name in [name for name in os.environ if name.startswith(hidden)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no-config"))
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # now, because it removes the variable
    monkeypatch.setenv("PYTEST_ADDOPTS", "" if "neighbours" in request.fixturenames else " ".join(FEW_PLUGINS))


@pytest.fixture(autouse=True)
def _no_secret_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test what it gave out as secret, which may be a word of the next one's."""
    ours = known.Secrets()
    for secret in tuple(known._secrets.values):  # a thread of another test may still learn one
        ours.learn(secret)
    monkeypatch.setattr(known, "_secrets", ours)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve the lab that the tests share."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB_FILE)
    with Lab([file], clients=["other"]) as lab:
        yield lab


@pytest.fixture
def client(lab: Lab) -> Iterator[Client]:
    """Return a client of the shared lab, to look at it from outside."""
    with Client.from_config(lab.client_config) as client:
        yield client


@pytest.fixture
def active_leases(client: Client) -> Callable[[], list[Lease]]:
    """Return what lists the leases that are active or pending."""
    return lambda: list(client.list_leases())


@pytest.fixture
def held(client: Client, active_leases: Callable[[], list[Lease]]) -> Iterator[Callable[[], list[Lease]]]:
    """Return what lists the leases that are active, and release them in the end, as people would."""
    yield active_leases
    for lease in active_leases():
        client.delete_lease(lease.name)
    until(lambda: client.get_exporter("board-1").status == "AVAILABLE", timeout=30)


@pytest.fixture
def suite(pytester: pytest.Pytester, lab: Lab) -> pytest.Pytester:
    """Return a folder whose ini file points at the shared lab and at board-1."""
    pytester.makeini(f"[pytest]\njmp_client = {lab.client_config}\njmp_selector = kind=dut\njmp_wait = 60s\n")
    return pytester


@pytest.fixture(scope="module")
def own_exporters() -> Iterator[FaultyLab]:
    """Serve a lab with an exporter of its own, which ends with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the counting driver is
        with faulty_lab(lambda calls: exporter_document("board-1", "kind: dut", VIRTUAL_BOARD + counting(calls))) as (
            lab,
            _,
        ):
            yield lab


@pytest.fixture
def boards(own_exporters: FaultyLab, pytester: pytest.Pytester) -> Iterator[FaultyLab]:
    """Return the lab with an exporter of its own, board-1, which is free before and after."""
    prepare(pytester, own_exporters)
    own_exporters.forget_calls()
    yield own_exporters
    until(lambda: own_exporters.leases() == [] and own_exporters.status("board-1") == "AVAILABLE", timeout=60)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Start a headless Chromium with a profile of its own."""
    from report_browser import chromium

    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def reader(browser: Chrome, tmp_path: Path) -> Iterator[Reader]:
    """Return a reader of pages; the page must not have complained in the end."""
    from report_browser import Reader

    reader = Reader(browser, tmp_path)
    reader.emulate(1280)
    yield reader
    assert reader.errors() == []


@pytest.fixture
def dead() -> Iterator[str]:
    """Return an endpoint on loopback where nothing listens, kept from others while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture(scope="session")
def jmp(request: pytest.FixtureRequest) -> Path:
    """Return the real `jmp` command line, of a venv of its own."""
    import shutil

    found = os.environ.get("PYTEST_JMP") or shutil.which("jmp")
    if not found:
        pytest.skip("no jmp: set PYTEST_JMP to the jmp of a venv with jumpstarter-cli")
    return request.config.invocation_params.dir / found  # tests change the current folder


@pytest.fixture(scope="session")
def neighbours(request: pytest.FixtureRequest) -> str:
    """Return the Python of a venv that has ours and other plugins, each of which changes how tests run."""
    if not (found := os.environ.get("PYTEST_NEIGHBOURS")):
        pytest.skip("no neighbours: set PYTEST_NEIGHBOURS to the python of a venv with the extra of that name")
    return str(request.config.invocation_params.dir / found)


_INSTALLED = """
from importlib.metadata import distributions
for each in distributions(): print(each.metadata["Name"], each.version)
"""


@pytest.fixture(scope="session")
def installed(neighbours: str, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Return what returns the version of a neighbour; one that is missing skips the test, with `--full` it fails it."""
    done = subprocess.run([neighbours, "-c", _INSTALLED], capture_output=True, text=True, timeout=60, check=True)
    versions = {canonicalize_name(name): version for name, version in map(str.split, done.stdout.splitlines())}

    def installed(package: str) -> str:
        if package not in versions and not request.config.getoption("full"):
            pytest.skip(f"{package} is not installed beside {neighbours}")
        return versions.get(canonicalize_name(package), "")

    return installed


@pytest.fixture(scope="session")
def peer_environ(jmp: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of `jmp`."""
    return environ_of(jmp, home=tmp_path_factory.mktemp("no-config"))


@pytest.fixture(scope="session")
def running_exporter(jmp: Path, peer_environ: dict[str, str]) -> Callable[..., AbstractContextManager[None]]:
    """Return what runs a real `jmp run`; see `exporting`."""
    return partial(exporting, jmp, peer_environ)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for tests that take long."""
    parser.addoption("--full", action="store_true", help="Also run what takes long, such as all of docs/neighbours.md")

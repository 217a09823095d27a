"""A lab with real and hand-driven exporters, and peers that speak to it without any client library."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_jumpstarter.lab import Lab

from .peers import ManualExporter, Peer

BOARD = "pytest_jumpstarter.lab.board.VirtualBoard"
LAB_FILE = f"""\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  name: board-1
  labels: {{board: virtual}}
export:
  board: {{type: {BOARD}}}
---
metadata: {{name: board-2, labels: {{board: spare}}}}
export:
  board: {{type: {BOARD}}}
---
metadata: {{name: ext-1, labels: {{kind: manual, slot: "1"}}}}
---
metadata: {{name: ext-2, labels: {{kind: manual, slot: "2"}}}}
---
metadata: {{name: solo-1, labels: {{kind: solo}}}}
---
metadata: {{name: fresh-1, labels: {{kind: never-seen}}}}
---
metadata: {{name: off-1, labels: {{kind: disabled}}}}
enabled: false
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve one lab for all tests that change nothing but leases of their own."""
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(LAB_FILE)
    with Lab([file], arguments=["--client", "other"]) as running:
        yield running


@pytest.fixture
def peer(lab: Lab) -> Iterator[Peer]:
    """Connect as the client `default`."""
    with Peer(lab.client_config) as client:
        yield client
        client.delete_all()


@pytest.fixture
def other(lab: Lab) -> Iterator[Peer]:
    """Connect as the client `other`."""
    with Peer(lab.config_dir / "clients" / "other.yaml") as client:
        yield client
        client.delete_all()


@pytest.fixture
def exporter(lab: Lab) -> Iterator[ManualExporter]:
    """Be the exporter `solo-1`, alone with its label `kind=solo`: registered, available, listening to its status."""
    with ManualExporter(lab.config_dir / "exporters" / "solo-1.yaml") as manual:
        manual.join()
        yield manual


@pytest.fixture
def lab_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a lab file."""

    def write(text: str) -> Path:
        file = tmp_path / "lab.yaml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def name() -> str:
    """Make a lease id that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"

"""The lab whose boards inner suites lose, and what runs these suites."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HOOKS, VIRTUAL_BOARD, exporter_document

from pytest_jumpstarter.lab import Lab

from .harm import OTHER
from .inner import Bench

BOARDS = 6
"""So many that a run which retries ten tests finds a board without two faults each time."""


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Serve a lab whose boards can be lost in every way, and return what runs suites in it."""
    tests = Path(__file__).parent
    path = os.pathsep.join(filter(None, [str(tests), str(tests.parent), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="pj-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)  # its name is short enough for a socket's path
        patch.setenv("PYTHONPATH", path)  # where the drivers are
        fragile = f"  counter: {{type: drivers_for_truth.Fragile, config: {{file: {folder / 'calls'}}}}}\n"
        boards = [
            exporter_document(f"board-{number}", "kind: dut", VIRTUAL_BOARD + fragile)
            for number in range(1, BOARDS + 1)
        ]
        broken = exporter_document(
            "hook-1", "board: broken", VIRTUAL_BOARD, HOOKS % "sleep 0.3; false"
        )  # time to be heard
        (folder / "lab.yaml").write_text("---\n".join([*boards, broken]))
        with Lab(
            [folder / "lab.yaml"],
            config_dir=folder / "config",
            clients=[OTHER],
            arguments=["--faults", str(folder)],
        ) as lab:
            yield Bench(config=lab.client_config, folder=folder, python_path=path, root=tmp_path_factory.getbasetemp())

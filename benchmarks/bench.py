"""The lab that is measured on, and the image that is flashed."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.lab.faults import order

PATIENCE = 60.0
"""Seconds for anything that the lab is expected to do."""

EXPORT = """\
export:
  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}
  power: {ref: board.power}
  storage: {ref: board.storage}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
"""


def document(name: str) -> str:
    """Return a document of a lab file: an exporter whose label `board` is its name."""
    head = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n"
    return f"{head}metadata: {{name: {name}, labels: {{board: {name}}}}}\n{EXPORT}"


def write_image(file: Path, size_mib: int) -> Path:
    """Write an image that nobody can compress, and return its path."""
    block = random.Random(0).randbytes(1 << 20)
    with file.open("wb") as stream:
        stream.write(b"1.0.0\n")
        for _ in range(size_mib):
            stream.write(block)
        stream.truncate(size_mib << 20)
    return file


_WRITES = "CreateLease,UpdateLease,DeleteLease,ReportStatus"
WRITE_SECONDS = 0.03
"""What a write takes. Source: controller 0.9.0 on a Kubernetes API, from CreateLease until the lease is Ready."""


class Bench:
    """
    A running lab, and a look at it from outside.

    Args:
        folder: Where its file is written.
        exporters: The names of its exporters.
    """

    def __init__(self, lab: Lab, client: Client) -> None:
        self.config_dir = lab.config_dir
        self.config = lab.client_config
        self._client = client
        self._numbers = itertools.count()

    @classmethod
    @contextmanager
    def open(cls, folder: Path, exporters: str, *, write_seconds: float = 0.0) -> Iterator[Bench]:
        """
        Serve a lab of these documents, with its file in `folder`, for as long as the context is open.

        Each request that changes something takes `write_seconds` longer.
        """
        file = folder / "lab.yaml"
        file.write_text(exporters)
        lab = Lab([file], arguments=["--faults", str(folder)] if write_seconds else [])
        with lab, Client.from_config(lab.client_config) as client:
            if write_seconds:
                order(folder, f"slow {_WRITES} {write_seconds:g}s to everyone")
            yield cls(lab, client)

    def wait_until_free(self) -> None:
        """Wait until every exporter has cleaned up after its last lease, which is not what is measured."""
        _until(lambda: self.is_free, "an exporter did not become available again")

    @contextmanager
    def held(self, board: str) -> Iterator[Callable[[], None]]:
        """Lease a board until what this yields is called; it waits until somebody else asks for the board."""
        lease = self._client.create_lease(
            lease_id=f"bench-holder-{next(self._numbers)}", selector=f"board={board}", duration=600.0
        )
        _until(lambda: self._client.get_lease(lease.name).is_ready, f"{board} was not leased")

        def hand_over() -> None:
            _until(lambda: len(list(self._client.list_leases())) > 1, f"nobody asked for {board}")
            self._client.delete_lease(lease.name)

        yield hand_over

    @property
    def is_free(self) -> bool:
        """Whether nothing is leased, and every exporter could be."""
        return not list(self._client.list_leases()) and all(
            exporter.status == "AVAILABLE" for exporter in self._client.list_exporters()
        )


def _until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.05)

"""A lab that can be killed, started again, and told to go wrong, with boards whose driver calls can be counted."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from forwarder import Forwarder
from runs import exporter_process

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.lab.faults import order
from pytest_jumpstarter.lab.weather import WATCHER

_starting = threading.Lock()  # a start changes the environment for its processes


class FaultyLab:
    """
    A lab that can be killed, started again, and told to go wrong.

    Attributes:
        config: The client config, which stays the same file.
        calls: The names of the driver calls that were begun.
    """

    def __init__(self, file: Path, folder: Path, *, clients: Sequence[str] = ()) -> None:
        self._file = file
        self._folder = folder
        self._clients = clients
        self._lab = self._new()
        self.config = folder / "config" / "clients" / "default.yaml"
        self._watcher = folder / "config" / "clients" / f"{WATCHER}.yaml"

    def start(self) -> None:
        """Start it, on the same port and with the same leases if it was killed."""
        self._lab = self._new()
        with _starting, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where lab_snapshot is
            self._lab.start()

    def kill(self) -> None:
        """End its process as a crash does."""
        os.kill(self._lab.pid, signal.SIGKILL)
        self._lab.stop()

    def stop(self) -> None:
        """End it in order."""
        self._lab.stop()

    def order(self, command: str) -> str:
        """Let it go wrong in some way."""
        return order(self._folder, command)

    @property
    def pid(self) -> int:
        """The process of lab controller and router; its exporters have processes of their own."""
        return self._lab.pid

    @property
    def endpoint(self) -> str:
        """Where lab controller and router are reached."""
        return self._lab.endpoint

    @contextmanager
    def own_router(self) -> Iterator[Forwarder]:
        """Put a process in front of the router, for connections from now on: kill, start or freeze it as the router."""
        with Forwarder(self.endpoint) as router:
            self.order(f"router-endpoint {router.endpoint}")
            try:
                yield router
            finally:
                self.order(f"router-endpoint {self.endpoint}")

    @contextmanager
    def own_way(self) -> Iterator[tuple[Forwarder, Path]]:
        """Put a process on the way of clients only; yield it with a client config that goes by this way."""
        with Forwarder(self.endpoint) as way:
            config = self.config.with_name("by-way.yaml")
            config.write_text(yaml.safe_dump(yaml.safe_load(self.config.read_text()) | {"endpoint": way.endpoint}))
            yield way, config

    def leases(self) -> list[Lease]:
        """Return the leases that are active or pending."""
        with Client.from_config(self._watcher) as client:
            return list(client.list_leases())

    def lease(self) -> Lease:
        """Return the one lease there is."""
        (lease,) = self.leases()
        return lease

    def exporters(self) -> list[str]:
        """Return the names of all exporters."""
        with Client.from_config(self._watcher) as client:
            return [each.name for each in client.list_exporters()]

    def status(self, exporter: str) -> str:
        """Return the status of an exporter."""
        with Client.from_config(self._watcher) as client:
            return client.get_exporter(exporter).status

    @property
    def calls(self) -> list[str]:
        """The names of the driver calls that were begun."""
        file = self._folder / "calls"
        return file.read_text().split() if file.exists() else []

    def forget_calls(self) -> None:
        """Begin to count anew."""
        (self._folder / "calls").unlink(missing_ok=True)

    def exporter_process(self, name: str) -> int:
        """Return the process that serves one of the lab's own exporters."""
        return exporter_process(self._lab, name)

    def give_token(self) -> None:
        """Write a new token into the client config, as `jmp login` does."""
        config = yaml.safe_load(self.config.read_text()) | {"token": self.order("token default")}
        new = self.config.with_suffix(".new")
        new.write_text(yaml.safe_dump(config))
        new.replace(self.config)

    def _new(self) -> Lab:
        return Lab(
            [self._file],
            config_dir=self._folder / "config",
            clients=[WATCHER, *self._clients],
            arguments=["--faults", str(self._folder), "--snapshot", "lab_snapshot"],
        )


@contextmanager
def faulty_lab(document: Callable[[str], str], *, clients: Sequence[str] = ()) -> Iterator[tuple[FaultyLab, Path]]:
    """Serve a lab from what `document` makes of its counting driver; yield its folder too."""
    with tempfile.TemporaryDirectory(prefix="pj-") as name:  # short enough for a socket's path
        folder = Path(name)
        (folder / "lab.yaml").write_text(document(str(folder / "calls")))
        lab = FaultyLab(folder / "lab.yaml", folder, clients=clients)
        lab.start()
        try:
            yield lab, folder
        finally:
            lab.stop()


def counting(file: str) -> str:
    """Return a driver named `counter` whose calls are noted in `file`."""
    return f"  counter: {{type: drivers_for_faults.Counting, config: {{file: {file}}}}}\n"


def prepare(suite: pytest.Pytester, lab: FaultyLab) -> None:
    """Let the suite lease from the lab, with a time to live of 20 seconds."""
    suite.makeini(f"[pytest]\njmp_client = {lab.config}\njmp_selector = kind=dut\njmp_ttl = 20s\njmp_wait = 30s\n")

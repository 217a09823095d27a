"""
A lab with many boards and clients: each test takes some, so that many tests can run at the same time.

Failures are ordered only for the client, or the exporters, of one bench; see `pytest_jumpstarter.lab.faults`.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from conftest import VIRTUAL_BOARD, exporter_document
from faulty import FaultyLab, counting, faulty_lab
from runs import until

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import AlreadyReleased, NotFound, RequestError

from .inner_run import Run, write_suite

FULL = bool(os.environ.get("WEATHER_FULL"))
"""Whether to test all combinations, not only those that CI has time for."""

PLAIN, HOOK = "board", "hook"
_HOOK = """\
hooks:
  beforeLease:
    script: "while [ -e {file} ]; do sleep 0.1; done"
    timeout: 100
    onFailure: endLease
"""
_ALL_BACK = 90.0  # seconds; an exporter that died is started again, and later each time


class Bench:
    """
    What belongs to one test only: a client, some boards, and a folder for its suite.

    Attributes:
        boards: The names of the exporters.
    """

    def __init__(self, lab: FaultyLab, client: str, boards: Sequence[str], folder: Path) -> None:
        self.lab = lab
        self.client = client
        self.boards = boards
        self.config = lab.config.with_name(f"{client}.yaml")
        self._folder = folder

    def order(self, trouble: str, *, exporters: bool = False) -> None:
        """Order a failure for the client of this bench, or for its exporters."""
        self.lab.order(f"{trouble} to {self._whom(exporters)}")

    def _whom(self, exporters: bool) -> str:
        return ",".join(self.boards) if exporters else self.client

    def calm(self) -> None:
        """End all failures that were ordered for this bench."""
        self.order("calm")
        self.order("calm", exporters=True)

    def called(self, method: str | None = None, *, exporters: bool = False) -> int:
        """Return how often the client, or the exporters, have called a method, or all methods, since the lab began."""
        kinds = json.loads(self.lab.order(f"calls to {self._whom(exporters)}"))
        counts: dict[str, int] = kinds.get("Exporter" if exporters else "Client", {})
        return sum(counts.values()) if method is None else counts.get(method, 0)

    def until_called(
        self, method: str | None, times: int, *, since: int, exporters: bool = False, timeout: float = 60.0
    ) -> None:
        """Wait until the client, or the exporters, have called so many times more than `since`."""
        until(lambda: self.called(method, exporters=exporters) >= since + times, timeout=timeout)

    def until_answered(self) -> None:
        """Wait until the lab controller answers the client of this bench."""

        def answers() -> bool:
            with suppress(RequestError), Client.from_config(self.config) as client:
                return client.get_exporter(self.boards[0], timeout=2.0).name == self.boards[0]
            return False

        until(answers, timeout=60)

    def exporter_processes(self) -> set[int]:
        """Return the processes that serve the boards; fewer while one is started again."""
        found = set()
        for board in self.boards:
            with suppress(AssertionError):
                found.add(self.lab.exporter_process(board))
        return found

    def until_others_serve(self, before: Set[int]) -> None:
        """Wait until other processes than before serve the boards, in the leases that there are."""

        def is_so() -> bool:
            now = self.exporter_processes()
            is_whole = len(now) == len(self.boards) and not now & before
            return is_whole and all(self.lab.status(board) in ("AVAILABLE", "LEASE_READY") for board in self.boards)

        until(is_so, timeout=_ALL_BACK)

    def suite(self, tests: str, *, conftest: str = "") -> None:
        """Write the suite that the next run runs."""
        write_suite(self._folder, tests, conftest)

    def run(self, *options: str) -> Run:
        """Return a run of the suite on the boards of this bench, which `with` starts; `options` override others."""
        ours = [f"--jmp-client={self.config}", f"--jmp-selector=name in ({','.join(self.boards)})"]
        return Run(self._folder, *ours, "--jmp-wait=60s", "--jmp-ttl=40s", *options)

    def leases(self) -> list[Lease]:
        """Return the active and pending leases of the client."""
        return [lease for lease in self.lab.leases() if lease.client == self.client]

    def until_free(self, *, timeout: float) -> None:
        """Wait until the client has no lease and all boards of the bench can be leased."""
        until(lambda: self.leases() == [], timeout=timeout)
        for board in self.boards:
            until(lambda name=board: self.lab.status(name) == "AVAILABLE", timeout=timeout)  # type: ignore[misc]

    @contextmanager
    def occupied(self, number: int = 0) -> Iterator[Callable[[], None]]:
        """Lease one of the boards with another client; yield a function that releases it."""
        with Client.from_config(self.lab.config) as client:
            name = f"other-{secrets.token_hex(4)}"
            client.create_lease(lease_id=name, exporter_name=self.boards[number], duration=300)
            until(lambda: client.get_lease(name).is_ready, timeout=30)

            def give_back() -> None:
                with suppress(AlreadyReleased, NotFound):
                    client.delete_lease(name)

            try:
                yield give_back
            finally:
                give_back()

    @contextmanager
    def hook_holds(self) -> Iterator[Callable[[], None]]:
        """Keep the beforeLease hook of the boards running until the end, or until the yielded function is called."""
        with ExitStack() as stack:
            for board in self.boards:
                stack.enter_context(self._marked(f"hold-{board}"))
            yield stack.close

    def stuck_port(self, board: str) -> AbstractContextManager[None]:
        """Prevent the port of a board from being opened."""
        return self._marked(f"stuck-{board}")

    @contextmanager
    def _marked(self, name: str) -> Iterator[None]:
        """Create a file that drivers or hooks look for, and remove it at the end."""
        file = self.lab.config.parents[2] / name
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def clean_up(self) -> None:
        """End all failures, release all leases, and wait until the boards are free."""
        self.calm()
        with Client.from_config(self.config) as client:
            for lease in self.leases():
                with suppress(RequestError):
                    client.delete_lease(lease.name)
        self.until_free(timeout=_ALL_BACK)


class SharedLab:
    """
    A lab, with its boards and clients that are not in use.

    Args:
        clients: The names of its clients: one for each bench.
        boards: The names of its exporters, by kind.
        new_folder: Creates a folder for a suite.
    """

    def __init__(
        self, lab: FaultyLab, clients: Sequence[str], boards: dict[str, list[str]], new_folder: Callable[[], Path]
    ) -> None:
        self.lab = lab
        self.new_folder = new_folder
        self._clients = _queue(clients)
        self._boards = {kind: _queue(names) for kind, names in boards.items()}
        self._taking = threading.Lock()

    @contextmanager
    def bench(self, boards: int = 1, *, kind: str = PLAIN) -> Iterator[Bench]:
        """Yield a bench with this number of boards, when they are free; at the end, clean it up."""
        with self._taking:  # so that no two tests wait for each other's boards
            client = self._clients.get(timeout=600)
            names = [self._boards[kind].get(timeout=600) for _ in range(boards)]
        bench = Bench(self.lab, client, names, self.new_folder())
        try:
            yield bench
        finally:
            try:
                bench.clean_up()
            finally:  # a failure costs no later test its bench
                self._clients.put(client)
                for name in names:
                    self._boards[kind].put(name)

    @contextmanager
    def apart(self, *, plain: int = 0, hooked: int = 0, with_port: bool = False) -> Iterator[SharedLab]:
        """Serve another lab, for failures that all its users see, or for boards with a second port."""
        with serve_lab(self.new_folder, plain=plain, hooked=hooked, with_port=with_port) as shared_lab:
            yield shared_lab


@contextmanager
def serve_lab(
    new_folder: Callable[[], Path], *, plain: int, hooked: int = 0, with_port: bool = False
) -> Iterator[SharedLab]:
    """Serve a lab with this number of boards; `Bench.stuck_port` needs boards with a port."""
    names = {kind: [f"{kind}-{n}" for n in range(count)] for kind, count in ((PLAIN, plain), (HOOK, hooked))}
    callers = [f"run-{n}" for n in range(plain + hooked)]

    def document(calls: str) -> str:
        folder = Path(calls).parent
        hook = {name: _HOOK.format(file=folder / f"hold-{name}") for name in names[HOOK]}

        def drivers(name: str) -> str:
            return VIRTUAL_BOARD + counting(calls) + (_port(name, folder) if with_port else "")

        return "---\n".join(
            exporter_document(name, f"name: {name}", drivers(name), hook.get(name, ""))
            for name in itertools.chain.from_iterable(names.values())
        )

    with ExitStack() as stack:
        lab, _ = stack.enter_context(faulty_lab(document, clients=callers))
        yield SharedLab(lab, callers, names, new_folder)


def _port(name: str, folder: Path) -> str:
    """Return a port that cannot be opened as long as a file exists."""
    return f"  port: {{type: drivers_for_faults.Hesitant, config: {{file: {folder / f'stuck-{name}'}}}}}\n"


def _queue(names: Sequence[str]) -> queue.SimpleQueue[str]:
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        free.put(name)
    return free

"""
Which test needs which devices: this decides what is leased together, and when each device is released.

It is registered if a collected test requests a device. A worker of xdist does not know its later tests, so it releases
devices at its end, or if another worker has waited too long for them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import Needs, devices_of
from pytest_jumpstarter.host.grpc_import import before_grpc
from pytest_jumpstarter.host.loggers import let_loggers_come
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.device_fixtures import device_fixtures, first_of
from pytest_jumpstarter.running.forks import no_fork_during
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.device import ExporterIdentity
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.running.run import Run

_OTHER_WORKER_TIMEOUT = 10.0
"""Seconds in which another worker should acquire the devices that this one released for it."""


class Schedule:
    """
    Releases devices early, and knows which devices are leased together.

    Args:
        session: Contains all collected tests, in the order in which they run.
        needs: For each device that a test requests its role, and what the test is skipped without.
    """

    def __init__(self, session: pytest.Session, needs: Iterable[tuple[str, Needs]]) -> None:
        self._config = config = session.config
        items: Sequence[pytest.Item] = session.items
        self._wanted = [devices_of(item).wanted for item in items]
        self._preferred = _preferred_of(needs)
        self._position = {item: position for position, item in enumerate(items)}
        self._sets = sets_of(self._wanted)
        self._fixtures = device_fixtures(session)
        self._current = 0
        self._unplanned: set[str] = set()
        self._imports: threading.Thread | None = None
        self._process = os.getpid()
        self._knows_later_tests = not hasattr(config, "workerinput")

    def together(self, wanted: Wanted) -> list[Wanted]:
        """Return the devices that are leased together, including `wanted`: for each role what is needed next."""
        order = [*self._wanted[self._current :], *reversed(self._wanted[: self._current])]
        found = {wanted.role: wanted}
        for devices in order:
            for role in self._sets.get(wanted.role, frozenset()) & devices.keys() - found.keys():
                found[role] = devices[role]
        return [replace(each, preferred=self._preferred.get(role, ())) for role, each in found.items()]

    def tests_waiting_for(self, wanted: Wanted) -> list[pytest.Item]:
        """Return the tests that have not run yet and need this device."""
        return [
            item
            for item, position in self._position.items()
            if position >= self._current and self._wanted[position].get(wanted.role) == wanted
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Import what devices need: in a thread if the first test needs none, at once if files are to be faked."""
        if "pyfakefs" in sys.modules and any(self._wanted):
            before_grpc()
            _import_all()
            return
        idle = self._wanted and not self._wanted[0]
        if not idle or session.config.getoption("collectonly") or session.config.getoption("setupplan"):
            return
        before_grpc()
        let_loggers_come()
        imports = threading.Thread(target=_import_all, name="jumpstarter-imports", daemon=True)
        with suppress(RuntimeError):  # no thread can be started: then the first test with a device imports it
            imports.start()
            self._imports = imports
            session.config.add_cleanup(self.wait_for_imports)
            no_fork_during(imports)

    def _warm_up(self, session: pytest.Session) -> None:
        """After the imports, and before a test needs a device, connect to the lab controller."""
        if os.getpid() != self._process:  # a test that runs in a forked child
            return
        if self._run is not None:
            self._run.show_findings()
        elif self._imports is not None and not self._imports.is_alive() and not self._wanted[self._current]:
            from pytest_jumpstarter.running.start import start_run

            run = start_run(session, session.config.stash[SETTINGS])
            run.warm_up([wanted for devices in self._wanted for wanted in devices.values()])

    def wait_for_imports(self) -> None:
        """Wait for the imports: if two threads import a module at once, one may get it incomplete."""
        if self._imports is not None:
            self._imports.join()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Release the devices of the test's roles if the test needs another device for one of them."""
        self._current = self._position.get(item, self._current)
        self._warm_up(item.session)
        devices = self._wanted[self._current]
        for held in self._run.sets.wanted if self._run is not None else ():
            if any(held[role] != devices[role] for role in held.keys() & devices.keys()):
                self._release(held)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Release the devices that no later test needs, or that the next user needs with other properties."""
        __tracebackhide__ = True  # for errors of the test
        self._unplanned |= devices_of(item).unplanned
        result = yield
        if self._run is not None and nextitem is not None and not self._run.is_paused:
            for held in self._run.sets.wanted:
                if held.keys() & (self._fixtures.looked_up_by_name | self._unplanned):
                    continue
                if not self._knows_later_tests:
                    self._release_for_other_worker(self._run, held)
                elif self._is_done(held):
                    self._release(held)
        return result

    def _release_for_other_worker(self, run: Run, held: Mapping[str, Wanted]) -> None:
        """Release devices if another worker has waited too long for one of them."""
        exporters = run.sets.exporters_of(held)
        if worker := run.events.wanted_by(exporters):
            self._release(held)
            _wait_for_other_worker(run.events, worker, exporters)

    @property
    def _run(self) -> Run | None:
        return self._config.stash.get(RUN, None)

    def _is_done(self, held: Mapping[str, Wanted]) -> bool:
        later = (self._wanted[position] for position in range(self._current + 1, len(self._wanted)))
        following = next((devices for devices in later if devices.keys() & held.keys()), None)
        return following is None or any(held[role] != following[role] for role in held.keys() & following.keys())

    def _release(self, held: Mapping[str, Wanted]) -> None:
        """Tear down the fixtures of these devices, then release the devices; then raise the first error, if any."""
        assert self._run is not None
        errors = [error for role in held for error in self._fixtures.finish(role)]
        self._run.sets.end(held)
        if errors:
            raise first_of(errors)


def _wait_for_other_worker(events: Events, worker: str, exporters: Sequence[ExporterIdentity]) -> None:
    """Wait until another worker has acquired what this one released, for some seconds at most."""
    from pytest_jumpstarter.leasing.waiting import attempts

    for _ in attempts(_OTHER_WORKER_TIMEOUT):
        if events.wanted_by(exporters) != worker:
            return


def _preferred_of(needs: Iterable[tuple[str, Needs]]) -> dict[str, tuple[str, ...]]:
    """Return for each role the labels that some test is skipped without."""
    preferred: dict[str, dict[str, None]] = {}
    for role, need in needs:
        preferred.setdefault(role, {}).update(dict.fromkeys(need.labels))
    return {role: tuple(selectors) for role, selectors in preferred.items()}


def sets_of(tests: Iterable[Iterable[str]]) -> dict[str, frozenset[str]]:
    """Return for each role its set of roles: if a test requests two roles, they are in the same set."""
    sets: dict[str, frozenset[str]] = {}
    for roles in {frozenset(test) for test in tests}:
        joined = roles.union(*(sets.get(role, frozenset()) for role in roles))
        sets.update(dict.fromkeys(joined, joined))
    return sets


def _import_all() -> None:
    """Import what a device needs, which takes more than half a second."""
    with suppress(Exception):  # the first test that needs a device gets the error
        import pytest_jumpstarter.leasing.from_controller  # noqa: F401
        from pytest_jumpstarter.running.start import import_clients

        import_clients()

"""
Which test needs which devices: what is leased together, and what no later test needs.

Registered when a collected test asks for a device. Under xdist a worker does not know which tests are still to come, so
there devices go back at its end, or when another worker has waited too long for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.roles import Needs, wanted_of
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.device_fixtures import device_fixtures
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.device import ExporterIdentity
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.leasing.events import Events
    from pytest_jumpstarter.running.run import Run

SCHEDULE = pytest.StashKey["Schedule"]()

_LET_GO_FIRST = 10.0
"""Seconds for another process to take what we gave back for it."""


class Schedule:
    """
    Gives devices back early, and knows what belongs together.

    Args:
        session: Has all collected tests, in the order in which they run.
        needs: For each device that a test asks for its role, and what the test is skipped without.
    """

    def __init__(self, session: pytest.Session, needs: Iterable[tuple[str, Needs]]) -> None:
        self._config = config = session.config
        items: Sequence[pytest.Item] = session.items
        self._wanted = [_wanted_devices(item) for item in items]
        self._preferred = _preferred_of(needs)
        self._position = {item: position for position, item in enumerate(items)}
        self._sets = sets_of(self._wanted)
        self._fixtures = device_fixtures(session)
        self._now = 0
        self._unplanned: set[str] = set()
        self._imports: threading.Thread | None = None
        self._knows_future = not hasattr(config, "workerinput")

    def together(self, wanted: Wanted) -> list[Wanted]:
        """Return what is leased together with `wanted`, itself included: for each role what is needed next."""
        order = [*self._wanted[self._now :], *reversed(self._wanted[: self._now])]
        found = {wanted.role: wanted}
        for devices in order:
            for role in self._sets.get(wanted.role, frozenset()) & devices.keys() - found.keys():
                found[role] = devices[role]
        return [replace(each, preferred=self._preferred.get(role, ())) for role, each in found.items()]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Import what devices need while tests without any run, if there are such."""
        idle = self._wanted and not self._wanted[0]
        if not idle or session.config.getoption("collectonly") or session.config.getoption("setupplan"):
            return
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # as `start_run` does, before gRPC reads it
        pytest_private.let_loggers_come()
        imports = threading.Thread(target=_import_all, name="jumpstarter-imports", daemon=True)
        with suppress(RuntimeError):  # no thread can be started: whoever needs a device imports what it needs
            imports.start()
            self._imports = imports
            session.config.add_cleanup(self.wait_for_imports)

    def _warm_up(self, session: pytest.Session) -> None:
        """Once the imports are done, and before a test needs a device, connect to the lab controller."""
        if self._run is not None:
            self._run.tell()
        elif self._imports is not None and not self._imports.is_alive() and not self._wanted[self._now]:
            from pytest_jumpstarter.running.start import start_run

            run = start_run(session, session.config.stash[SETTINGS])
            run.warm_up([wanted for devices in self._wanted for wanted in devices.values()])

    def wait_for_imports(self) -> None:
        """Wait for what is being imported: two threads that import the same at once may see halves of it."""
        if self._imports is not None:
            self._imports.join()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give back what is held for the test's roles if the test wants another device for one of them."""
        self._now = self._position.get(item, self._now)
        self._warm_up(item.session)
        devices = self._wanted[self._now]
        for held in self._run.sets.wanted if self._run is not None else ():
            if any(held[role] != devices[role] for role in held.keys() & devices.keys()):
                self._give_back(held)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Give back the devices that no later test needs, or not as they are."""
        self._unplanned |= devices_of(item).unplanned
        result = yield
        if self._run is not None and nextitem is not None and not self._run.is_paused:
            for held in self._run.sets.wanted:
                if held.keys() & (self._fixtures.fetched | self._unplanned):
                    continue
                if not self._knows_future:
                    self._give_way(self._run, held)
                elif self._is_done(held):
                    self._give_back(held)
        return result

    def _give_way(self, run: Run, held: Mapping[str, Wanted]) -> None:
        """Give devices back for a while, if another worker has waited too long for one of them."""
        exporters = run.sets.exporters_of(held)
        if other := run.events.wanted_by(exporters):
            self._give_back(held)
            _let_go_first(run.events, other, exporters)

    @property
    def _run(self) -> Run | None:
        return self._config.stash.get(RUN, None)

    def _is_done(self, held: Mapping[str, Wanted]) -> bool:
        later = (devices for devices in self._wanted[self._now + 1 :] if devices.keys() & held.keys())
        following = next(later, None)
        return following is None or any(held[role] != following[role] for role in held.keys() & following.keys())

    def _give_back(self, held: Mapping[str, Wanted]) -> None:
        """End the fixtures over these devices, then give the devices back; the first error goes on."""
        assert self._run is not None
        errors = [error for role in held for error in self._fixtures.finish(role)]
        self._run.sets.end(held)
        if errors:
            raise errors[0]


def _let_go_first(events: Events, other: str, exporters: Sequence[ExporterIdentity]) -> None:
    """Wait until another process of this run has what we gave back, for some seconds at most."""
    from pytest_jumpstarter.leasing.waiting import attempts

    for _ in attempts(_LET_GO_FIRST):
        if events.wanted_by(exporters) != other:
            return


def _wanted_devices(item: pytest.Item) -> dict[str, Wanted]:
    """Return what a test wants for each of its roles; what makes no sense is told when its fixture is made."""
    found = {}
    for role, wish in devices_of(item).planned.items():
        try:
            found[role] = wanted_of(item, role, wish)
        except ConfigError:
            continue
    return found


def _preferred_of(needs: Iterable[tuple[str, Needs]]) -> dict[str, tuple[str, ...]]:
    """Return for each role the labels that tests are skipped without."""
    preferred: dict[str, dict[str, None]] = {}
    for role, need in needs:
        preferred.setdefault(role, {}).update(dict.fromkeys(need.labels))
    return {role: tuple(selectors) for role, selectors in preferred.items()}


def sets_of(tests: Iterable[Iterable[str]]) -> dict[str, frozenset[str]]:
    """Return the set that each role is in: any two roles that a test asks for together are in one."""
    sets: dict[str, frozenset[str]] = {}
    for roles in {frozenset(test) for test in tests}:
        joined = roles.union(*(sets.get(role, frozenset()) for role in roles))
        sets.update(dict.fromkeys(joined, joined))
    return sets


def _import_all() -> None:
    """Import what a device needs: a good half second."""
    with suppress(Exception):  # whoever needs a device is told
        import pytest_jumpstarter.leasing.from_controller
        import pytest_jumpstarter.running.start  # noqa: F401
        from pytest_jumpstarter.device.exporter_connection import warm_up

        warm_up()

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
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.live import LiveFixtures
from pytest_jumpstarter.roles import ROLES, Needs, roles_of, wanted_of
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted
    from pytest_jumpstarter.run import Run


class Schedule:
    """
    Gives devices back early, and knows what belongs together.

    Args:
        items: All collected tests, in the order in which they run.
        needs: For each device that a test asks for its role, and what the test is skipped without.
        live: Knows the fixtures that are alive.
    """

    def __init__(
        self,
        config: pytest.Config,
        items: Sequence[pytest.Item],
        needs: Iterable[tuple[str, Needs]],
        live: LiveFixtures,
    ) -> None:
        self._config = config
        self._wanted = [_wanted_devices(item) for item in items]
        self._hopes = _hopes_of(needs)
        self._position = {item: position for position, item in enumerate(items)}
        self._sets = sets_of(self._wanted)
        self._live = live
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
        return [replace(each, hopes=self._hopes.get(role, ())) for role, each in found.items()]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Import what devices need while tests without any run, if there are such."""
        idle = self._wanted and not self._wanted[0]
        if not idle or session.config.getoption("collectonly") or session.config.getoption("setupplan"):
            return
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # as `start_run` does, before gRPC reads it
        self._imports = threading.Thread(target=_import_all, name="jumpstarter-imports", daemon=True)
        self._imports.start()
        session.config.add_cleanup(self.wait_for_imports)

    def _warm_up(self, session: pytest.Session) -> None:
        """Once the imports are done, and before a test needs a device, connect to the lab controller."""
        if self._run is not None:
            self._run.tell()
        elif self._imports is not None and not self._imports.is_alive() and not self._wanted[self._now]:
            from pytest_jumpstarter.session import start_run

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
        for held in self._run.held if self._run is not None else ():
            if any(held[role] != devices[role] for role in held.keys() & devices.keys()):
                self._give_back(held)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Note a device of which the test's signature did not tell."""
        __tracebackhide__ = True  # of an error in the fixture
        if fixturedef.argname in self._config.stash[ROLES] - self._wanted[self._now].keys():
            self._unplanned.add(fixturedef.argname)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        """Give back the devices that no later test needs, or not as they are."""
        result = yield
        if self._run is not None and nextitem is not None and not self._run.is_paused:
            for held in self._run.held:
                if held.keys() & (self._live.fetched | self._unplanned):
                    continue
                if not self._knows_future:
                    self._give_way(self._run, held)
                elif self._is_done(held):
                    self._give_back(held)
        return result

    def _give_way(self, run: Run, held: Mapping[str, Wanted]) -> None:
        """Give devices back for a while, if another worker has waited too long for one of them."""
        exporters = run.exporters_of(held)
        if other := run.wanted_by(exporters):
            self._give_back(held)
            run.let_go_first(other, exporters)

    @property
    def _run(self) -> Run | None:
        ending = self._config.pluginmanager.get_plugin("jumpstarter-ending")
        return cast("Run", ending.run) if ending is not None else None

    def _is_done(self, held: Mapping[str, Wanted]) -> bool:
        later = (devices for devices in self._wanted[self._now + 1 :] if devices.keys() & held.keys())
        following = next(later, None)
        return following is None or any(held[role] != following[role] for role in held.keys() & following.keys())

    def _give_back(self, held: Mapping[str, Wanted]) -> None:
        """End the fixtures over these devices, then give the devices back; the first error goes on."""
        assert self._run is not None
        errors = [error for role in held for error in self._live.finish(role)]
        self._run.give_back(held)
        if errors:
            raise errors[0]


def _wanted_devices(item: pytest.Item) -> dict[str, Wanted]:
    """Return what a test wants for each of its roles; what makes no sense is told when its fixture is made."""
    found = {}
    for role in roles_of(item):
        try:
            found[role] = wanted_of(item, role)
        except ConfigError:
            continue
    return found


def _hopes_of(needs: Iterable[tuple[str, Needs]]) -> dict[str, tuple[str, ...]]:
    """Return for each role the labels that tests are skipped without."""
    hopes: dict[str, dict[str, None]] = {}
    for role, need in needs:
        hopes.setdefault(role, {}).update(dict.fromkeys(need.labels))
    return {role: tuple(selectors) for role, selectors in hopes.items()}


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
        import pytest_jumpstarter.leasing.source
        import pytest_jumpstarter.session  # noqa: F401
        from pytest_jumpstarter.device.exporter_connection import warm_up

        warm_up()

"""`BoardStates`: reaches board states for tests, and ends them between two tests."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.evidence.lease_times import LEASE_TIMES
from pytest_jumpstarter.evidence.state_times import STATE_TIMES, StateTimesRecorder
from pytest_jumpstarter.roles import STATES, roles_of
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import CurrentTest, current_test
from pytest_jumpstarter.running.device_fixtures import DeviceFixtures, device_fixtures, first_of
from pytest_jumpstarter.settings import SETTINGS
from pytest_jumpstarter.states.planned import StateFixture, planned_states, states_of
from pytest_jumpstarter.states.spoiling import ENDS_PHASE, excuse, is_failure, is_marked_skipped, marked_spoils
from pytest_jumpstarter.states.transitions import Arrived, Transitions
from pytest_jumpstarter.states.walks import Walks

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.states.position import Position

BOARD_STATES: pytest.StashKey[BoardStates] = pytest.StashKey()

_LEFT_TO_PEOPLE: list[object] = []
"""
Transitions whose rest never runs, because their boards are left to people.

The list contains itself, so that the interpreter does not close the transitions when it ends.
"""
_LEFT_TO_PEOPLE.append(_LEFT_TO_PEOPLE)


class BoardStates:
    """
    The board states of the devices of this process.

    A state is left before the next test that does not stand on it: first what stands on it is torn down, then what
    follows the `yield` of its transition runs.

    Args:
        test: Knows the test that runs.
        fixtures: Knows the fixtures that are set up.
    """

    def __init__(
        self, config: pytest.Config, test: CurrentTest, fixtures: DeviceFixtures, times: StateTimesRecorder
    ) -> None:
        self._config = config
        self._test = test
        self._fixtures = fixtures
        self._times = times
        self._transitions = Transitions(self._say, is_debugged=bool(config.getoption("usepdb", default=False)))
        self._walks = Walks(self._transitions, test)
        self._positions: dict[str, Position] = {}
        self._refused: list[pytest.FixtureRequest] = []

    def enter(
        self, made: StateFixture, request: pytest.FixtureRequest, fixtures: Mapping[str, Any]
    ) -> Generator[Any, None, None]:
        """Bring the board of a test into a state, and yield the value of the state until it ends."""
        __tracebackhide__ = True
        name, item = str(request.fixturename), self._test.item
        position = self._position(fixtures[made.role], made)
        test = item.name if item is not None else name
        self._leave_other(position, request, test)
        self._fixtures.note_state(request, position.role, made.state.name)
        position.standing, position.spoiled = name, ""  # also if it fails: pytest keeps the error like a value
        values = {**fixtures, "request": request}
        try:
            arrived = self._transitions.reach(position, made.state, fixtures[made.role], values.__getitem__, test)
        except BaseException:
            position.spoil(f"{made.state.name} was not reached")
            raise
        try:
            yield arrived.value
        finally:
            self._end(position, name, arrived)

    @pytest.hookimpl(tryfirst=True)
    def pytest_jumpstarter_device_ready(self, device: Device) -> None:
        """Know nothing of a board when its lease begins."""
        self._new_position(device)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse a test that stands on two states of a device; end the states that it does not stand on."""
        for role, states in planned_states(item).items():
            if len(states) > 1:
                raise ConfigError(
                    f"{item.name} requests {' and '.join(map(repr, sorted(states)))}, which are states of {role!r}: "
                    "a test stands on one state of a device; to walk through several, use dut.state.reach"
                )
        if errors := self._leave_for(item):
            raise first_of(errors)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """After a failure, also in a subtest, nobody knows where the boards of the test are."""
        report = yield
        if call.when != "teardown" and is_failure(self._test.error(call)):  # the teardown is over then
            self._fail(item, f"{item.name} failed")
        return report

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """After the teardown of a test, end the states that the next test does not stand on, or that are spoiled."""
        __tracebackhide__ = True  # for errors of the test
        errors = self._walks.end_all()
        try:
            result = yield
        except ENDS_PHASE as exc:
            result = None
            errors += excuse(item, [exc]) if self._is_spoiled(item) else [exc]
        if any(map(is_failure, errors)):
            self._fail(item, f"{item.name} failed in its teardown")
        self._settle(item)
        errors += self._leave_for(nextitem) if nextitem is not None else []
        if errors:
            raise first_of(errors)
        return result

    def _settle(self, item: pytest.Item) -> None:
        """Note what a test that is over has done to its boards."""
        stood, marked = self._stood_on(item), marked_spoils(item)
        for role, position in self._positions.items():
            if role in stood and marked:
                position.spoil(f"{item.name} spoils it")
            elif role in devices_of(item).roles and role not in stood and marked is not False:
                position.spoil(f"after {item.name}")  # whatever it did with the device
            position.is_kept = False
        while self._refused:
            request = self._refused.pop()
            pytest_private.finish_fixture(pytest_private.fixturedef_of(request), request)

    def _fail(self, item: pytest.Item, why: str) -> None:
        """Spoil the boards of a test that failed, unless it keeps their states."""
        if marked_spoils(item) is False:
            return
        for role in self._stood_on(item) & self._positions.keys():
            if not self._positions[role].is_kept:
                self._positions[role].spoil(why)

    def _stood_on(self, item: pytest.Item) -> set[str]:
        """Return the roles of the devices of whose states a test stands on one."""
        return {*planned_states(item), *devices_of(item).states}

    def _is_spoiled(self, item: pytest.Item) -> bool:
        return any(self._positions[role].spoiled for role in self._stood_on(item) & self._positions.keys())

    def _leave_for(self, item: pytest.Item) -> list[BaseException]:
        """End the states that a test does not stand on, and those that are spoiled; return the errors."""
        if is_marked_skipped(item):
            return []
        wanted = {role: next(iter(states)) for role, states in planned_states(item).items()}
        used = wanted.keys() if marked_spoils(item) is False else wanted.keys() | roles_of(item).keys()
        errors = []
        for role, position in self._positions.items():
            is_other = role in used and wanted.get(role) != position.standing
            if position.standing and (position.spoiled or is_other):
                errors += self._leave(position)
        return errors

    def _leave_other(self, position: Position, request: pytest.FixtureRequest, test: str) -> None:
        """Before a state that a test requests by name: leave the one that an earlier test stands on."""
        name = str(request.fixturename)
        if position.standing in ("", name):
            return
        item = self._test.item
        if item is not None and position.role in self._stood_on(item):
            self._refused.append(request)  # pytest keeps the error, and would raise it in later tests
            stood = devices_of(item).states.get(position.role, position.standing)
            raise ConfigError(f"{test} stands on {stood!r} already, so it cannot request {name!r} of the same device")
        if errors := self._leave(position):
            raise first_of(errors)

    def _leave(self, position: Position) -> list[BaseException]:
        """End the state that stands, after what stands on it; return the errors that count."""
        standing, was_spoiled = position.standing, bool(position.spoiled)
        errors = self._fixtures.finish_state(standing)
        if errors:
            position.lose(f"the end of {standing} failed")
        position.standing = position.spoiled = ""
        item = self._test.item
        return excuse(item, errors) if was_spoiled and item is not None else errors

    def _end(self, position: Position, name: str, arrived: Arrived) -> None:
        """End a state: run what follows its `yield`, unless people have the board."""
        __tracebackhide__ = True
        if position.standing == name:
            position.standing = ""
        run = self._config.stash.get(RUN, None)
        if run is not None and position.role in run.left_to_people:
            _LEFT_TO_PEOPLE.append(arrived)
        else:
            arrived.end()

    def _position(self, device: object, made: StateFixture) -> Position:
        from pytest_jumpstarter.device import Device
        from pytest_jumpstarter.states.position import Position

        if not isinstance(device, Device):
            raise ConfigError(
                f"state {made.state.name!r}: the fixture {made.role!r} yields {type(device).__name__}, "
                "not a device of this plugin; the first argument of a transition must be a device fixture"
            )
        found = device.state
        return found if isinstance(found, Position) else self._new_position(device)

    def _new_position(self, device: Device) -> Position:
        from pytest_jumpstarter.device.device import connected
        from pytest_jumpstarter.states.position import Position

        role = device.role
        known: dict[str, list[StateFixture]] = self._config.stash[STATES]
        initial = self._config.stash[SETTINGS].find("state", role)
        lease_times = self._config.stash.get(LEASE_TIMES, None)
        position = self._positions[role] = Position(
            device,
            lease=lease_times.key_of(role) if lease_times is not None else "",
            states=states_of(known, role),
            initial=initial.text if initial is not None else "",
            times=self._times,
            walks=self._walks,
        )
        behind = connected(device)
        behind.board_state = position
        behind.on_change.append(position.change)
        return position

    def _say(self, line: str) -> None:
        run = self._config.stash.get(RUN, None)
        if run is not None and not self._config.get_verbosity() < 0:
            run.events.say(line)


def board_states(session: pytest.Session) -> BoardStates:
    """Return the `BoardStates` of a session; the first call makes and registers it."""
    config = session.config
    if BOARD_STATES not in config.stash:
        worker = getattr(config, "workerinput", {}).get("workerid", "main")
        times = config.stash.setdefault(STATE_TIMES, StateTimesRecorder(worker))
        fixtures = device_fixtures(session)
        config.stash[BOARD_STATES] = found = BoardStates(config, current_test(session), fixtures, times)
        config.pluginmanager.register(found, "jumpstarter-board-states")
    return config.stash[BOARD_STATES]

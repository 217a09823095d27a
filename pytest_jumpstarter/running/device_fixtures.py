"""
`DeviceFixtures`: the device fixtures that are set up, the tests and fixtures that use them, and their early teardown.
The same for the fixtures of board states.

Each lookup of a device fixture counts as use by the current test: whether pytest sets the fixture up then or before,
and whether the test requests it directly or through another fixture (a *dependent* fixture).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.roles import Wish, is_device_fixture, wish_of
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import CurrentTest, attempt_of, current_test

if TYPE_CHECKING:
    from pytest_jumpstarter.running.run import Run

DEVICE_FIXTURES: pytest.StashKey[DeviceFixtures] = pytest.StashKey()

_Fixture = pytest.FixtureDef[Any]


class DeviceFixtures:
    """
    Knows the device fixtures, and their dependent fixtures with a wider scope than a test.

    Attributes:
        looked_up_by_name: The roles that a dependent fixture got by `request.getfixturevalue`: pytest would not tear
            that fixture down together with the device.
        checks: Called with a test and a role when the test gets a device that is set up already; a check may skip
            the test, because this device lacks what the test needs.
    """

    def __init__(self, config: pytest.Config, test: CurrentTest) -> None:
        self.looked_up_by_name: set[str] = set()
        self.checks: list[Callable[[pytest.Item, str], object]] = []
        self._config = config
        self._test = test
        self._set_up: dict[str, dict[_Fixture, pytest.FixtureRequest]] = {}
        self._devices_of_dependent: dict[_Fixture, dict[str, _Fixture]] = {}
        self._states: dict[_Fixture, tuple[str, str]] = {}  # role and name of the state
        self._wishes: dict[_Fixture, Wish | None] = {}  # None for a board state
        self._on_state: dict[str, dict[_Fixture, pytest.FixtureRequest]] = {}

    def check_present(self, item: pytest.Item, roles: Iterable[str]) -> None:
        """
        Raise the loss of a device that a test is about to use, if a fixture of wider scope still has the device.

        If no fixture has it, or the test runs again, the device is set up again instead. Without a retry a fixture of
        wider scope keeps its lost device: others rely on the state that they brought this board to.

        Raises:
            DeviceError: A device is lost.
        """
        __tracebackhide__ = True
        if (run := self._config.stash.get(RUN, None)) is None:
            return
        for role in roles:
            health = run.healths.get(role)
            if health is None or health.is_retired or (loss := health.current_loss()) is None:
                continue
            if attempt_of(item) == 1 and run.sets.is_used(role):
                raise loss.with_traceback(None)
            self.tear_down_lost(run, [role])

    def tear_down_lost(self, run: Run, roles: Iterable[str]) -> None:
        """Tear down the fixtures of these devices and their dependents; the next lookup sets them up again."""
        ended = run.sets.roles_with(list(roles))
        for role in ended:
            self.finish(role)  # errors are dropped: they come from the loss of the device
        pytest.CallInfo.from_call(  # which drops the error
            partial(run.sets.end, ended),
            when="teardown",
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )
        for role in ended:
            run.healths.pop(role, None)

    def note_setup(self, request: pytest.FixtureRequest) -> None:
        """Note a device fixture that is being set up, and watch its lookups from now on."""
        fixture, role = pytest_private.fixturedef_of(request), str(request.fixturename)
        self._set_up.setdefault(role, {})[fixture] = request
        self._note_use(fixture, pytest_private.item_of(request), [request, *pytest_private.requests_above(request)])
        pytest_private.on_lookup(fixture, partial(self._look_up, fixture), self.note_failure)

    def note_state(self, request: pytest.FixtureRequest, role: str, state: str) -> None:
        """Note that the fixture of a board state is being set up; its dependents are noted from now on."""
        fixture = pytest_private.fixturedef_of(request)
        self._states[fixture] = role, state
        self._on_state.setdefault(fixture.argname, {})
        self._set_up.setdefault(fixture.argname, {})[fixture] = request
        self._note_use(fixture, pytest_private.item_of(request), pytest_private.requests_above(request))

    def finish_state(self, name: str) -> list[BaseException]:
        """Tear down the fixture of a board state after its dependents, the latest first; return the errors."""
        dependents = reversed(self._on_state.pop(name, {}).items())
        errors = [error for fixture, request in dependents for error in _finished(fixture, request)]
        return errors + self.finish(name)

    @contextmanager
    def noting_failure(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Note a failure to get the device that is set up for a request."""
        try:
            yield
        except Exception as exc:
            self.note_failure(pytest_private.item_of(request), exc)
            raise

    def note_failure(self, item: pytest.Item, error: Exception) -> None:
        """Note that a test did not get a device that it requested, even if the test handles the error."""
        if isinstance(error, DeviceError):
            devices_of(item).failure = error

    def finish(self, name: str) -> list[BaseException]:
        """Tear down the fixtures with this name, after their dependents; return the errors."""
        set_up = self._set_up.pop(name, {}).items()
        errors: list[BaseException] = []
        for fixture, request in sorted(set_up, key=lambda each: each[0].argname == name):
            if fixture.argname != name:
                errors += self.finish(fixture.argname)
            errors += _finished(fixture, request)
        return errors

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: _Fixture, request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Watch what a fixture of wider scope than a test looks up by name, also after its setup."""
        __tracebackhide__ = True  # for errors in the fixture
        if "request" in fixturedef.argnames and fixturedef.scope != "function":
            pytest_private.on_getfixturevalue(request, partial(self._on_getfixturevalue, request))
        return (yield)

    def _look_up(self, device: _Fixture, item: pytest.Item, above: Sequence[pytest.FixtureRequest]) -> None:
        """Note that a test is about to get a device; check that it can use a device that is set up already."""
        __tracebackhide__ = True
        self._note_use(device, item, above)
        self.check_present(item, [device.argname])
        for check in self.checks if device.cached_result is not None else ():
            check(item, device.argname)

    def _note_use(self, device: _Fixture, item: pytest.Item, requests: Sequence[pytest.FixtureRequest]) -> None:
        """Note that `item` uses a device, through the fixtures of these requests, the nearest to the device first."""
        if device not in self._wishes:
            self._wishes[device] = wish_of(device)
        if (wish := self._wishes[device]) is not None:
            devices_of(item).note(device.argname, wish)
        if device in self._states:
            role, state = self._states[device]
            devices_of(item).states[role] = state
        below = ""
        for request in requests:
            fixture = pytest_private.fixturedef_of(request)
            if not is_device_fixture(fixture) and fixture.scope != "function":
                self._note_dependent(device, below, fixture, request)
            below = str(request.fixturename)

    def _note_dependent(self, device: _Fixture, below: str, fixture: _Fixture, request: pytest.FixtureRequest) -> None:
        """Note that `fixture` depends on a device, because it requested the fixture named `below`."""
        if below and below not in fixture.argnames:
            self.looked_up_by_name.add(device.argname)
            self._set_up.setdefault(below, {})[fixture] = request
        self._devices_of_dependent.setdefault(fixture, {})[device.argname] = device
        if device in self._states:
            self._on_state.setdefault(device.argname, {})[fixture] = request
        pytest_private.on_lookup(fixture, partial(self._on_dependent, fixture), self.note_failure)
        pytest_private.on_getfixturevalue(request, partial(self._on_getfixturevalue, request))

    def _on_dependent(self, fixture: _Fixture, item: pytest.Item, above: Sequence[pytest.FixtureRequest]) -> None:
        """Note that a test gets a dependent fixture; during its setup the fixture looks the devices up itself."""
        __tracebackhide__ = True
        if fixture.cached_result is not None:
            for device in self._sources(fixture):
                self._look_up(device, item, above)

    def _on_getfixturevalue(self, request: pytest.FixtureRequest, fixture: _Fixture) -> None:
        """Note that the fixture of `request` looked up `fixture` by name, perhaps for a later test than its first."""
        __tracebackhide__ = True
        above = pytest_private.fixturedef_of(request)
        for device in self._sources(fixture):
            if not is_device_fixture(above) and above.scope != "function":
                self._note_dependent(device, fixture.argname, above, request)
            if (item := self._test.item) is not None:
                self._look_up(device, item, [])

    def _sources(self, fixture: _Fixture) -> list[_Fixture]:
        """Return the devices and board states that a user of a fixture uses: itself, or what it depends on."""
        own = [fixture] if is_device_fixture(fixture) or fixture in self._states else []
        return [*self._devices_of_dependent.get(fixture, {}).values(), *own]


def _finished(fixture: _Fixture, request: pytest.FixtureRequest) -> list[BaseException]:
    """Tear down a fixture; return its error, if any."""
    call = pytest.CallInfo.from_call(
        partial(pytest_private.finish_fixture, fixture, request),
        when="teardown",
        reraise=(pytest.exit.Exception, KeyboardInterrupt),
    )
    return [call.excinfo.value] if call.excinfo is not None else []


def first_of(errors: Sequence[BaseException]) -> BaseException:
    """Return the first of the errors of several teardowns, with a note of each other one, which pytest shows below."""
    first, *others = errors
    for other in others:
        first.add_note(f"then: {type(other).__name__}: {other}")
    return first


def device_fixtures(session: pytest.Session) -> DeviceFixtures:
    """Return the `DeviceFixtures` of a session; the first call makes and registers it."""
    config = session.config
    if DEVICE_FIXTURES not in config.stash:
        config.stash[DEVICE_FIXTURES] = found = DeviceFixtures(config, current_test(session))
        config.pluginmanager.register(found, "jumpstarter-device-fixtures")
    return config.stash[DEVICE_FIXTURES]

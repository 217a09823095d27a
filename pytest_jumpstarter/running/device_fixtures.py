"""
`DeviceFixtures`: the device fixtures that are set up, who looks them up, and how to end them before their scope does.

Each lookup counts for the test at hand, whether pytest sets the fixture up for it or has it already, directly or by
another fixture that stands over the device.
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
from pytest_jumpstarter.roles import is_device_fixture, wish_of
from pytest_jumpstarter.running import RUN
from pytest_jumpstarter.running.current_test import CurrentTest, attempt_of, current_test

if TYPE_CHECKING:
    from pytest_jumpstarter.running.run import Run

DEVICE_FIXTURES = pytest.StashKey["DeviceFixtures"]()

_Fixture = pytest.FixtureDef[Any]


class DeviceFixtures:
    """
    Knows the device fixtures, and the fixtures of wider scope than a test that stand over them.

    Attributes:
        fetched: The roles that such a fixture looked up by name: pytest would not end it with the device.
        checks: Called with a test and a role when the test gets a device that is there already, to skip the test for
            which it will not do.
    """

    def __init__(self, config: pytest.Config, test: CurrentTest) -> None:
        self.fetched: set[str] = set()
        self.checks: list[Callable[[pytest.Item, str], object]] = []
        self._config = config
        self._test = test
        self._made: dict[str, dict[_Fixture, pytest.FixtureRequest]] = {}
        self._over: dict[_Fixture, dict[str, _Fixture]] = {}

    def check_present(self, item: pytest.Item, roles: Iterable[str]) -> None:
        """
        Raise the loss of a device that a test is about to use, and that a fixture of wider scope still has.

        If no fixture has it, or the test runs again, it is made anew instead.

        Raises:
            DeviceError: A device is lost.
        """
        __tracebackhide__ = True
        if (run := self._config.stash.get(RUN, None)) is None:
            return
        for role in roles:
            health = run.healths.get(role)
            if health is None or health.loss is None or health.is_retired:
                continue
            if attempt_of(item) == 1 and run.sets.is_used(role):
                raise health.loss.with_traceback(None)
            self.make_anew(run, [role])

    def make_anew(self, run: Run, roles: Iterable[str]) -> None:
        """End the fixtures of these devices and all that stands over them: the next lookup makes them anew."""
        ended = run.sets.roles_with(list(roles))
        for role in ended:
            self.finish(role)  # an error here comes from the loss, too
        pytest.CallInfo.from_call(  # and here
            partial(run.sets.end, ended),
            when="teardown",
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )
        for role in ended:
            run.healths.pop(role, None)

    def note_setup(self, request: pytest.FixtureRequest) -> None:
        """Note a device fixture that is being set up, and its lookups from now on."""
        fixture, role = pytest_private.fixturedef_of(request), str(request.fixturename)
        self._made.setdefault(role, {})[fixture] = request
        self._note(fixture, pytest_private.item_of(request), [request, *pytest_private.requests_above(request)])
        pytest_private.on_lookup(fixture, partial(self._look_up, fixture), self.note_failure)

    @contextmanager
    def noting_failure(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """Note if the device that is set up for a request cannot be had."""
        try:
            yield
        except Exception as exc:
            self.note_failure(pytest_private.item_of(request), exc)
            raise

    def note_failure(self, item: pytest.Item, error: Exception) -> None:
        """Note that a test did not get a device it asked for, whatever it makes of the error."""
        if isinstance(error, DeviceError):
            devices_of(item).failure = error

    def finish(self, name: str) -> list[BaseException]:
        """End what is known by a name, after all that asked for it; return what went wrong."""
        made = self._made.pop(name, {}).items()
        errors: list[BaseException] = []
        for fixture, request in sorted(made, key=lambda each: each[0].argname == name):
            if fixture.argname != name:
                errors += self.finish(fixture.argname)
            call = pytest.CallInfo.from_call(
                partial(pytest_private.finish_fixture, fixture, request),
                when="teardown",
                reraise=(pytest.exit.Exception, KeyboardInterrupt),
            )
            errors += [call.excinfo.value] if call.excinfo is not None else []
        return errors

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: _Fixture, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
        """Watch what a fixture that outlives its test looks up by name, also long after its setup."""
        __tracebackhide__ = True  # of an error in the fixture
        if "request" in fixturedef.argnames and fixturedef.scope != "function":
            pytest_private.on_getfixturevalue(request, partial(self._on_value, request))
        return (yield)

    def _look_up(self, device: _Fixture, item: pytest.Item, above: Sequence[pytest.FixtureRequest]) -> None:
        """Note that a test is about to get a device; a device that is there already must be all right for it."""
        __tracebackhide__ = True
        self._note(device, item, above)
        self.check_present(item, [device.argname])
        for check in self.checks if device.cached_result is not None else ():
            check(item, device.argname)

    def _note(self, device: _Fixture, item: pytest.Item, requests: Sequence[pytest.FixtureRequest]) -> None:
        """Note that `item` uses a device, by the fixtures of these requests, the nearest to it first."""
        if (wish := wish_of(device)) is not None:
            devices_of(item).note(device.argname, wish)
        below = ""
        for request in requests:
            fixture = pytest_private.fixturedef_of(request)
            if not is_device_fixture(fixture) and fixture.scope != "function":
                self._note_over(device, below, fixture, request)
            below = str(request.fixturename)

    def _note_over(self, device: _Fixture, below: str, fixture: _Fixture, request: pytest.FixtureRequest) -> None:
        """Note that a fixture stands over a device, by the fixture named `below` that it asked for."""
        if below and below not in fixture.argnames:
            self.fetched.add(device.argname)
            self._made.setdefault(below, {})[fixture] = request
        self._over.setdefault(fixture, {})[device.argname] = device
        pytest_private.on_lookup(fixture, partial(self._on_standing, fixture), self.note_failure)
        pytest_private.on_getfixturevalue(request, partial(self._on_value, request))

    def _on_standing(self, fixture: _Fixture, item: pytest.Item, above: Sequence[pytest.FixtureRequest]) -> None:
        """Note that a test gets a fixture that stands over devices; one that is to be set up will look them up."""
        __tracebackhide__ = True
        if fixture.cached_result is not None:
            for device in list(self._over[fixture].values()):
                self._look_up(device, item, above)

    def _on_value(self, request: pytest.FixtureRequest, fixture: _Fixture) -> None:
        """Note that the fixture of `request`, which may be older than the test at hand, looked `fixture` up by name."""
        __tracebackhide__ = True
        devices = [fixture] if is_device_fixture(fixture) else list(self._over.get(fixture, {}).values())
        above = pytest_private.fixturedef_of(request)
        for device in devices:
            if not is_device_fixture(above) and above.scope != "function":
                self._note_over(device, fixture.argname, above, request)
            if (item := self._test.item) is not None:
                self._look_up(device, item, [])


def device_fixtures(session: pytest.Session) -> DeviceFixtures:
    """Return what knows the device fixtures of a session, made and registered at the first call."""
    config = session.config
    if DEVICE_FIXTURES not in config.stash:
        config.stash[DEVICE_FIXTURES] = found = DeviceFixtures(config, current_test(session))
        config.pluginmanager.register(found, "jumpstarter-device-fixtures")
    return config.stash[DEVICE_FIXTURES]

"""Fixtures that are alive: device fixtures, and those that asked for one by name, so that both can be ended early."""

from __future__ import annotations

from collections.abc import Collection, Generator
from functools import partial
from typing import Any

import pytest

from pytest_jumpstarter import pytest_private


class LiveFixtures:
    """
    Knows how to end a device fixture before its scope does.

    Args:
        roles: The names of all device fixtures.

    Attributes:
        fetched: What fixtures that outlive a test asked for by `request.getfixturevalue`, which pytest does not note.
    """

    def __init__(self, roles: Collection[str]) -> None:
        self.fetched: set[str] = set()
        self._roles = roles
        self._made: dict[str, dict[pytest.FixtureDef[Any], pytest.FixtureRequest]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Note each device fixture that is made, to be able to end it, and what asks for one by name."""
        __tracebackhide__ = True  # of an error in the fixture
        if fixturedef.argname in self._roles:
            self._made.setdefault(fixturedef.argname, {})[fixturedef] = request
        if "request" in fixturedef.argnames:
            pytest_private.on_getfixturevalue(request, partial(self._note, fixturedef, request))
        return (yield)

    def _note(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, name: str) -> None:
        if fixturedef.scope != "function":  # which ends with the test
            self._made.setdefault(name, {})[fixturedef] = request
            if fixturedef.argname not in self._roles:
                self.fetched.add(name)

    def finish(self, name: str) -> list[BaseException]:
        """End what is known by a name, after all that asked for it; return what went wrong."""
        made = self._made.pop(name, {}).items()
        errors: list[BaseException] = []
        for fixturedef, request in sorted(made, key=lambda each: each[0].argname == name):
            if fixturedef.argname != name:
                errors += self.finish(fixturedef.argname)
            call = pytest.CallInfo.from_call(
                partial(pytest_private.finish_fixture, fixturedef, request),
                when="teardown",
                reraise=(pytest.exit.Exception, KeyboardInterrupt),
            )
            errors += [call.excinfo.value] if call.excinfo is not None else []
        return errors

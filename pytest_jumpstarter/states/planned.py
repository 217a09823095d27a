"""Which board states a test stands on, by its signature and its fixtures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.pytest_private import fixture_definitions
from pytest_jumpstarter.roles import ROLES, STATES
from pytest_jumpstarter.settings import SETTINGS
from pytest_jumpstarter.states.graph import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFixture:
    """
    What the fixture of a board state brings about.

    Attributes:
        state: The state.
        role: The role of the device, which is the name of the fixture that the transition gets first.
        scope: The scope of the fixture; None for that of the device.
        has_params: Whether the fixture has parameters.
    """

    state: State
    role: str
    scope: str | None
    has_params: bool


_STATE_FIXTURES: WeakKeyDictionary[object, StateFixture] = WeakKeyDictionary()


def remember(fixture: object, made: StateFixture) -> None:
    """Note which state a fixture, or its function, brings about."""
    _STATE_FIXTURES[fixture] = made


def state_fixture(fixture: object) -> StateFixture | None:
    """Return which state a fixture, or its function, brings about; None for any other object."""
    try:
        return _STATE_FIXTURES.get(fixture)
    except TypeError:  # it has no hash, or takes no weak reference
        return None


def planned_states(item: pytest.Item) -> dict[str, dict[str, StateFixture]]:
    """Return the states that a test requests, itself or through its fixtures: by role, then by name of the fixture."""
    found: dict[str, dict[str, StateFixture]] = {}
    for name in item.config.stash[STATES].keys() & set(getattr(item, "fixturenames", ())):
        if (made := _in_force(item, name)) is not None:
            found.setdefault(made.role, {})[name] = made
    return found


def states_of(found: Mapping[str, list[StateFixture]], role: str) -> dict[str, State]:
    """Return the states of a role by name, with those that are only on the way, the nearest to a root first."""
    goals = [made.state for each in found.values() for made in each if made.role == role]
    states = dict.fromkeys(state for goal in goals for state in goal.ancestors())
    return {state.name: state for state in sorted(states, key=lambda state: (state.distance, state.name))}


def check_states(config: pytest.Config) -> None:
    """
    Check that each state is one of a device, and that the settings name states that there are.

    Raises:
        OptionError: A transition gets something else than a device first, or `--jmp-state` names no state.
    """
    found, roles = config.stash[STATES], config.stash[ROLES]
    for made in (made for each in found.values() for made in each):
        if made.role not in roles:
            code = made.state.function.__code__
            raise OptionError(
                f"board_state {made.state.name!r} ({code.co_filename}:{code.co_firstlineno}): its device {made.role!r} "
                f"is no device fixture; there are {', '.join(sorted(roles))}"
            )
    for setting in config.stash[SETTINGS].all("state"):
        if setting.text not in (known := states_of(found, setting.role)):
            raise OptionError(
                f"{setting.source}: {setting.role!r} has no board state {setting.text!r}; "
                f"it has {', '.join(known) or 'none'}"
            )


def _in_force(item: pytest.Item, name: str) -> StateFixture | None:
    """Return the state of this name in a test; None if another fixture has the name."""
    for fixturedef in reversed(fixture_definitions(item, name)):
        function: Any = fixturedef.func
        if (made := state_fixture(function)) is not None:
            return made
        if name not in fixturedef.argnames:  # an override that uses the state has it as argument
            return None
    return None

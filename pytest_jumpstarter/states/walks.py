"""`Walks`: what tests reach by `dut.state.reach`, which walk through several states and stand on none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.states.graph import State
from pytest_jumpstarter.states.spoiling import ENDS_PHASE
from pytest_jumpstarter.states.transitions import Arrived, Transitions

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.running.current_test import CurrentTest
    from pytest_jumpstarter.states.position import Position


class Walks:
    """
    The states that the test under way has reached by `dut.state.reach`.

    Args:
        transitions: Runs the transitions.
        test: Knows the test that runs.
    """

    def __init__(self, transitions: Transitions, test: CurrentTest) -> None:
        self._transitions = transitions
        self._test = test
        self._arrived: dict[str, Arrived] = {}

    def reach(self, position: Position, device: Device, state: State) -> Any:
        """Bring a device into a state; see `DeviceState.reach`."""
        __tracebackhide__ = True
        item = self._test.item
        if item is None:
            raise ConfigError(f"{device}: state.reach({state.name!r}) works in a test only")
        if standing := devices_of(item).states.get(device.role):
            raise ConfigError(f"{device}: {item.name} stands on {standing!r}, so it cannot reach {state.name!r}")
        self.end(device.role)
        value_of = pytest_private.request_of(item).getfixturevalue
        arrived = self._transitions.reach(position, state, device, value_of, item.name)
        self._arrived[device.role] = arrived
        return arrived.value

    def end(self, role: str) -> None:
        """Run what follows the `yield` of the state that was reached last."""
        if (arrived := self._arrived.pop(role, None)) is not None:
            arrived.end()

    def end_all(self) -> list[BaseException]:
        """At the end of a test, do so for all devices; return the errors."""
        errors: list[BaseException] = []
        for role in list(self._arrived):
            try:
                self.end(role)
            except ENDS_PHASE as exc:
                errors.append(exc)
        return errors

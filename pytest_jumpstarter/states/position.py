"""`Position`: where a board is among the board states of its suite, during one lease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_jumpstarter.device.device_state import DeviceState
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.states.graph import State, path_to

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.evidence.state_times import StateTimesRecorder
    from pytest_jumpstarter.states.walks import Walks


_PLAIN = (str, bytes, int, float, PurePath)
"""Values that are the same if they are equal; others are the same if they are one object."""


class Unreachable(NamedTuple):
    """
    A state that could not be reached.

    Attributes:
        words: What a test that needs it is told.
        given: The fixtures of the transitions that led there: with others, it may be reached.
    """

    words: str
    given: Mapping[str, object]


class Position(DeviceState):
    """
    Where a board is, and what is known of its states.

    Args:
        device: The device.
        lease: The key of its lease in the records of reports.
        states: The states of this device, by name.
        initial: The name of the state that the board is in already (`--jmp-state`); empty if unknown.
        times: Records when the board was in which state.
        walks: Reaches states for tests that walk through several.

    Attributes:
        role: The role of the device.
        at: The state that the board is in; None if nobody knows.
        standing: The name of the fixture of the state that tests stand on; empty if none is set up.
        spoiled: Why the state must end; empty if it need not.
        is_kept: Whether this test keeps the state even if it fails.
        is_adopted: Whether `at` is known from `--jmp-state` alone.
        unreachable: The states that could not be reached.
    """

    def __init__(
        self,
        device: Device,
        *,
        lease: str,
        states: Mapping[str, State],
        initial: str,
        times: StateTimesRecorder,
        walks: Walks,
    ) -> None:
        role = device.role
        super().__init__(str(device), f"{role}.drivers['state']" if "state" in device.drivers else "")
        self.role = role
        self._walks = walks
        self._moved = device
        self.states = states
        self.at = states.get(initial)
        self.standing = self.spoiled = ""
        self.is_kept = False
        self.is_adopted = self.at is not None
        self.unreachable: dict[State, Unreachable] = {}
        self._given: dict[str, object] = {}
        self._is_moving = False
        self._lost = ""
        self._lease = lease
        self._times = times
        if self.at is not None:
            times.begin(role, lease, self.at.name, "")
            times.reach(role)

    @property
    def current(self) -> str | None:
        """The name of the state that the device is in; None if nobody knows."""
        return self.at.name if self.at is not None else None

    @property
    def words(self) -> str:
        """Where the board is, for people."""
        if self.at is not None:
            return self.at.name
        return f"unknown ({self._lost})" if self._lost else "unknown"

    def spoil(self, why: str) -> None:
        """Do as after a failure: when the test is over the state ends, and the next transition starts from a root."""
        self.spoiled = self.spoiled or why
        self.lose(why)

    def keep(self) -> None:
        """Keep the state even if this test fails."""
        self.is_kept = True

    def forget(self) -> None:
        """Forget where the device is, and which states it could not reach; they are tried again."""
        self.unreachable.clear()
        self.spoil("forgotten")

    def lose(self, why: str) -> None:
        """Note that nobody knows any more where the board is."""
        if self.at is not None:
            self._times.leave(self.role)
        self.at, self.is_adopted, self._lost = None, False, why

    def change(self, what: str) -> None:
        """Note that what is on the board changes: only the transition under way knows where that leads."""
        self.unreachable.clear()
        if not self._is_moving:
            self.spoil(what)

    def revise(self, goal: State, value_of: Callable[[str], Any]) -> None:
        """Forget, on the way to a state, what was found with other values of fixtures than a test has now."""
        leading = set(goal.ancestors())
        if self.at in leading - {goal} and (name := _other(self._given, goal, value_of)):
            self.lose(f"{self.at.name} was reached with another {name!r}")
        for state in leading & self.unreachable.keys():
            if _other(self.unreachable[state].given, goal, value_of):
                del self.unreachable[state]

    def begin(self, step: State, given: Mapping[str, object]) -> None:
        """Note that a transition begins, and the values of its fixtures."""
        self._given = {**(self._given if step.after else {}), **_comparable(given)}
        self._is_moving = True
        self._times.begin(self.role, self._lease, step.name, self.current or "")

    def arrive(self, step: State) -> None:
        """Note that a transition ended in its state."""
        self._times.reach(self.role)
        self.at, self._lost, self._is_moving = step, "", False

    def give_up(self, step: State, words: str) -> None:
        """Note that a state could not be reached."""
        self.unreachable[step] = Unreachable(words, self._given)

    def fail(self, error: str) -> None:
        """Note that a transition failed."""
        self._times.fail(self.role, error)
        self.at, self.is_adopted, self._lost, self._is_moving = None, False, "a transition failed", False

    def path_to(self, goal: State) -> tuple[State, ...] | None:
        """
        Return the transitions that lead to a state; None if it cannot be reached.

        A state that the board is in is reached anew from a root, unless it is known from `--jmp-state` alone: its
        transition finds the board there.
        """
        if self.at is goal and self.is_adopted:
            return (goal,)
        return path_to(goal, None if self.at is goal else self.at, self.unreachable)

    def why_unreachable(self, goal: State) -> str:
        """Return the words for a test that needs a state to which no path leads any more."""
        return next(self.unreachable[state].words for state in goal.ancestors() if state in self.unreachable)

    def reach(self, name: str) -> Any:
        """Bring the device into a state, in a test that walks through several; return the value of the state."""
        __tracebackhide__ = True  # pytest shows the line of the test
        if name not in self.states:
            near = get_close_matches(name, self.states, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ConfigError(f"{self._device} has no state {name!r}; it has {', '.join(self.states)}{hint}")
        return self._walks.reach(self, self._moved, self.states[name])


def _comparable(given: Mapping[str, object]) -> dict[str, object]:
    """Return the values of fixtures; of `request`, which each test has another of, the parameter."""
    return {name: getattr(value, "param", None) if name == "request" else value for name, value in given.items()}


def _other(given: Mapping[str, object], goal: State, value_of: Callable[[str], Any]) -> str:
    """Return a fixture on the way to a state that has another value now; empty if there is none."""
    names = [name for name in goal.fixtures() if name in given]
    now = _comparable({name: value_of(name) for name in names})
    return next((name for name in names if not _is_same(given[name], now[name])), "")


def _is_same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, _PLAIN) and type(one) is type(other) and one == other)

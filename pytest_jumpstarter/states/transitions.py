"""`Transitions`: brings a board into a state, by the transitions that lead there."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Generator
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_jumpstarter.errors import ConfigError, DeviceError, StateNotReached
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.masking import first_characters
from pytest_jumpstarter.states.graph import State
from pytest_jumpstarter.states.spoiling import ENDS_PHASE

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.states.position import Position

_FINAL = (DeviceError, ConfigError, pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception)
"""Errors of a transition that another try does not change, and that already say what they are."""

_TIME_LIMITS = ("pytest_timeout",)
"""Plugins whose limit is for the whole test, so that no time is left for another try."""

_LONGEST_REASON = 300  # characters of an error in one line


class Arrived(NamedTuple):
    """
    A state that was reached.

    Attributes:
        name: The name of the state.
        value: What its transition returned or yielded.
        rest: The transition, if it has yielded: what follows runs when the state ends.
    """

    name: str
    value: Any
    rest: Generator[Any, Any, Any] | None

    def end(self) -> None:
        """
        Run what follows the `yield`.

        Raises:
            RuntimeError: The transition yields a second time.
        """
        __tracebackhide__ = True
        if self.rest is None:
            return
        try:
            next(self.rest)
        except StopIteration:
            return
        raise RuntimeError(f"board_state {self.name!r}: a transition yields once")


class Transitions:
    """
    Runs transitions.

    Args:
        say: Shows a line at once.
        is_debugged: Whether `--pdb` shows the first error, so that there is no second try.
    """

    def __init__(self, say: Callable[[str], object], *, is_debugged: bool) -> None:
        self._say = say
        self._is_debugged = is_debugged

    def reach(
        self, position: Position, goal: State, device: Device, value_of: Callable[[str], Any], test: str
    ) -> Arrived:
        """
        Bring a board into a state.

        Args:
            position: Where the board is.
            goal: The state.
            device: The board.
            value_of: Returns the value of a fixture for a transition.
            test: The name of the test that needs it.

        Raises:
            StateNotReached: A transition failed as often as it may be tried, now or for an earlier test.
            DeviceError, ConfigError: A transition raised this.
        """
        __tracebackhide__ = True
        tried: Counter[State] = Counter()
        position.revise(goal, value_of)
        while (path := position.path_to(goal)) is not None:
            under_way, was_adopted = _UnderWay(path[0], position.words), position.is_adopted
            try:
                return self._walk(position, path, device, value_of, under_way)
            except BaseException as exc:
                position.fail(_one_line(exc))
                if isinstance(exc, _FINAL) or not isinstance(exc, ENDS_PHASE) or _is_over_time(exc):
                    raise
                step = under_way.step
                tried[step] += 1
                if tried[step] < step.tries and not self._is_debugged and not was_adopted:
                    self._say(f"{device}: {step.name} not reached, next try from a root: {_one_line(exc)}")
                    continue
                position.give_up(
                    step,
                    f"{device} did not reach {step.name!r} at {real_time.clock()}, in {test}, and is not asked again: "
                    f"{_one_line(exc)}",
                )
                words = f"{device} did not reach {under_way.failed_for(goal, tried[step])}"
                if self._is_debugged:
                    exc.add_note(words)
                    raise  # so that the debugger stops in the transition
                raise StateNotReached(f"{words}: {_one_line(exc)}") from exc
        raise StateNotReached(position.why_unreachable(goal)) from None

    def _walk(
        self,
        position: Position,
        path: tuple[State, ...],
        device: Device,
        value_of: Callable[[str], Any],
        under_way: _UnderWay,
    ) -> Arrived:
        """Run the transitions of a path; what follows a `yield` on the way runs before the next one."""
        __tracebackhide__ = True
        arrived = Arrived("", None, None)
        for step in path:
            arrived.end()
            under_way.step, under_way.start = step, position.words
            began = real_time.monotonic()
            given = {name: value_of(name) for name in step.arguments}
            position.begin(step, given)
            arrived = _call(step, device, given)
            position.arrive(step)
            self._say(f"{device}: {under_way.start} -> {step.name} {real_time.monotonic() - began:.1f}s")
        position.is_adopted = False
        return arrived


class _UnderWay:
    """The transition that runs, and where the board was before, for people."""

    def __init__(self, step: State, start: str) -> None:
        self.step = step
        self.start = start

    def failed_for(self, goal: State, tries: int) -> str:
        """Return the state that was not reached, where it failed on the way, and how often it was tried."""
        where = f": it failed on the way, at {self.step.name!r}" if self.step is not goal else ""
        return f"{goal.name!r}{where} (from {self.start}, {tries} of {self.step.tries} tries)"


def _call(step: State, device: Device, values: dict[str, Any]) -> Arrived:
    __tracebackhide__ = True
    result = step.function(device, **values)
    if not inspect.isgenerator(result):
        return Arrived(step.name, result, None)
    try:
        return Arrived(step.name, next(result), result)
    except StopIteration:
        raise RuntimeError(f"board_state {step.name!r}: the transition did not yield") from None


def _is_over_time(error: BaseException) -> bool:
    """Return whether a plugin that limits the time of a test raised this error, from a signal handler."""
    return any(frame.f_globals.get("__name__") in _TIME_LIMITS for frame, _ in walk_tb(error.__traceback__))


def _one_line(error: BaseException) -> str:
    """Return the kind and the first line of an error, without secrets: half of one would not be found any more."""
    words = str(error).strip().partition("\n")[0]
    return first_characters(f"{type(error).__name__}: {words}" if words else type(error).__name__, _LONGEST_REASON)

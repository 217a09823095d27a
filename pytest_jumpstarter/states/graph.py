"""`State`: a state of a board, and the function that leads to it; and the shortest path from one state to another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """
    A state of a board. Boards of several roles may have it.

    Attributes:
        name: Its name.
        function: The transition into it: it gets the device, and other fixtures, and returns or yields a value.
        after: The states that the transition starts from; without any, it starts from wherever the board is.
        tries: How often the transition is tried before a test fails.
        arguments: The fixtures that the transition gets beside the device.
    """

    name: str
    function: Callable[..., Any]
    after: tuple[State, ...] = ()
    tries: int = 1
    arguments: tuple[str, ...] = ()

    @cached_property
    def distance(self) -> int:
        """The number of transitions on the longest path from a root: what leads to a state has a smaller one."""
        return 1 + max((state.distance for state in self.after), default=-1)

    def ancestors(self) -> Iterator[State]:
        """Yield this state, and all states that may lead to it, each once."""
        waiting, seen = [self], {self}
        while waiting:
            state = waiting.pop()
            yield state
            waiting += [each for each in state.after if each not in seen]
            seen.update(state.after)

    def fixtures(self) -> list[str]:
        """Return the fixtures of all transitions that may lead to this state."""
        return list(dict.fromkeys(name for state in self.ancestors() for name in state.arguments))


def path_to(goal: State, start: State | None, avoid: Collection[State] = ()) -> tuple[State, ...] | None:
    """
    Return the states on the shortest path to `goal`, which is the last of them.

    Args:
        goal: Where to go.
        start: Where the board is, which is not on the path; None if nobody knows: then the path begins with a root.
        avoid: States that cannot be reached. None is returned if every path leads through one of them.
    """
    waiting: deque[tuple[State, ...]] = deque([(goal,)])
    seen = {goal}
    while waiting:
        path = waiting.popleft()
        first = path[0]
        if first in avoid:
            continue
        if not first.after or start in first.after:
            return path
        waiting += [(state, *path) for state in first.after if state not in seen]
        seen.update(first.after)
    return None

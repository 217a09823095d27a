"""The order of tests by board states: tests on one state are together, after those on the states that lead to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.pytest_private import fixture_definitions
from pytest_jumpstarter.roles import STATES

if TYPE_CHECKING:
    from pytest_jumpstarter.states.graph import State

_Unit = list[pytest.Item]

StateRank = tuple[tuple[str, int, int], ...]
"""The states of a test: for each role the distance of the state from a root, and a number of the state."""


class StateOrder:
    """
    The states of tests, and the order that they give.

    Tests that stand on no state come first: what they do with a board, nobody knows.

    Args:
        items: The tests.
    """

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self._numbers: dict[State, int] = {}
        self._ranks: dict[pytest.Item, StateRank] = {}
        if items and _has_states(items[0].config):
            self._ranks = {item: self._rank(item) for item in items}
        self.is_any = any(self._ranks.values())

    def span(self, unit: _Unit) -> tuple[StateRank, StateRank]:
        """Return the lowest and the highest rank of the tests of a unit."""
        ranks = [self._ranks.get(item, ()) for item in unit]
        return min(ranks), max(ranks)

    def parts(self, unit: _Unit) -> list[_Unit]:
        """Return the tests of a unit in parts with one state each; a class is in one part."""
        found: dict[object, _Unit] = {}
        for block in _blocks(unit):
            found.setdefault((_wide_parameters(block[0]), *self.span(block)), []).extend(block)
        return list(found.values())

    def arranged(self, unit: _Unit, in_order: Collection[pytest.Item]) -> _Unit:
        """Return the tests of a module in order of their states; classes stay whole."""
        first: dict[object, int] = {}
        for item in unit:
            first.setdefault(_wide_parameters(item), len(first))

        def in_order_of_states(blocks: Sequence[_Unit]) -> _Unit:
            ranks = [(first[_wide_parameters(block[0])], *self.span(block)) for block in blocks]
            fixed = [number for number, block in enumerate(blocks) if not set(block).isdisjoint(in_order)]
            return [item for number in merged(ranks, fixed) for item in blocks[number]]

        return in_order_of_states([in_order_of_states([[item] for item in block]) for block in _blocks(unit)])

    def _rank(self, item: pytest.Item) -> StateRank:
        from pytest_jumpstarter.states.planned import planned_states

        def number_of(state: State) -> int:
            return self._numbers.setdefault(state, len(self._numbers))

        states = [(role, made.state) for role, all_of in planned_states(item).items() for made in all_of.values()]
        return tuple(sorted((role, state.distance, number_of(state)) for role, state in states))


def merged(ranks: Sequence[Any], fixed: Sequence[int]) -> Iterator[int]:
    """Yield the positions of units, the lowest rank first; those of `fixed` keep their order."""
    rest = set(fixed)
    ordered = deque(fixed)
    for position in sorted(set(range(len(ranks))) - rest, key=lambda position: (ranks[position], position)):
        while ordered and (ranks[ordered[0]], ordered[0]) < (ranks[position], position):
            yield ordered.popleft()
        yield position
    yield from ordered


def class_of(item: pytest.Item) -> pytest.Class | None:
    """Return the outermost class of a test."""
    classes = [node for node in item.listchain() if isinstance(node, pytest.Class)]
    return classes[0] if classes else None


def _blocks(unit: _Unit) -> Iterator[_Unit]:
    """Yield the classes of a unit, each as a whole, and each other test alone."""
    for found, tests in groupby(unit, class_of):
        block = list(tests)
        yield from [block] if found is not None else ([item] for item in block)


def _wide_parameters(item: pytest.Item) -> tuple[tuple[str, str], ...]:
    """Return the parameters of fixtures of wider scope than a test, such as a device: pytest has grouped by them."""
    callspec = getattr(item, "callspec", None)
    params = callspec.params.items() if callspec is not None else ()
    return tuple(
        (name, repr(value))
        for name, value in params
        if any(each.scope != "function" for each in fixture_definitions(item, name)[-1:])
    )


def _has_states(config: pytest.Config) -> bool:
    return bool(config.stash[STATES])

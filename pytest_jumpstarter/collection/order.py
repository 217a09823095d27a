"""
The order of tests: those without devices first, then grouped by device, so that no board is held longer than needed.

Whole modules move, so that no module fixture runs twice. A class moves alone if only this class of its module needs a
device and it shares no module fixture with the rest. Inside a module or class, tests keep their order, except that
those on one board state are together (order_by_state.py). What others have ordered (order_of_others.py) stays as it is.
With `--jmp-order longest`, workers of xdist begin with what takes longest, inside of these rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

import pytest

from pytest_jumpstarter.collection.order_by_state import StateOrder, class_of, merged
from pytest_jumpstarter.collection.order_of_others import Block, order_of_others
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.pytest_private import fixture_definitions
from pytest_jumpstarter.roles import COLLECTED
from pytest_jumpstarter.workers import EXPECTED

_Unit = list[pytest.Item]


def arrange(session: pytest.Session) -> str:
    """Group the tests of a session by device, except where others have ordered them; return who did, or nothing."""
    others = order_of_others(session)
    expected = getattr(session.config, "workerinput", {}).get(EXPECTED, {})
    arranged = [item for block in others.blocks for item in _arranged(block, others.in_order, expected)]
    is_hindered = arranged != grouped_by_device(session.items, expected=expected)
    session.items[:] = arranged
    session.stash[COLLECTED] = list(arranged)  # a host that collects twice sees our order as that of the collection
    return " and ".join(others.reasons) if is_hindered else ""


def _arranged(block: Block, in_order: Collection[pytest.Item], expected: Mapping[str, float]) -> Sequence[pytest.Item]:
    return grouped_by_device(block.tests, in_order, expected=expected) if block.may_group else block.tests


def grouped_by_device(
    items: Sequence[pytest.Item],
    in_order: Collection[pytest.Item] = (),
    *,
    expected: Mapping[str, float] = MappingProxyType({}),
) -> list[pytest.Item]:
    """
    Return the tests in an order that holds devices for the shortest time.

    Args:
        items: The tests.
        in_order: Those that keep their order among themselves.
        expected: How long tests take, by their ids; of units on the same devices, the longest is first.
    """
    states = StateOrder(items)
    by_module = [unit for _, module in groupby(items, _module) for unit in _units(list(module), in_order)]
    units = [part for unit in by_module for part in _by_state(unit, in_order, states)]
    first: dict[object, int] = {}
    keys = [_devices(unit) for unit in units]
    for position, key in enumerate(keys):
        for device in key:
            first.setdefault(device, position)
    seconds = [sum(expected.get(item.nodeid, 0.0) for item in unit) for unit in units]
    ranks = [
        (min((first[device] for device in key), default=-1), len(key), *states.span(unit), -length)
        for unit, key, length in zip(units, keys, seconds, strict=True)
    ]
    fixed = [position for position, unit in enumerate(units) if _has_any(unit, in_order)]
    return [item for position in merged(ranks, fixed) for item in units[position]]


def _has_any(unit: _Unit, in_order: Collection[pytest.Item]) -> bool:
    return any(item in in_order for item in unit)


def _module(item: pytest.Item) -> pytest.Item | pytest.Collector:
    return item.getparent(pytest.Module) or item


def _devices(unit: _Unit) -> dict[object, None]:
    """Return the devices of a unit's tests, in order of first use; different parameters are different devices."""
    devices: dict[object, None] = {}
    for item in unit:
        callspec = getattr(item, "callspec", None)
        for role, wish in devices_of(item).planned.items():
            devices[role, wish, repr(callspec.params.get(role)) if callspec is not None else ""] = None
    return devices


def _units(module: _Unit, in_order: Collection[pytest.Item]) -> Iterator[_Unit]:
    """Yield the tests of a module as one unit, or as two: without and with devices."""
    classes = {class_of(item) for item in module if devices_of(item).planned}
    alone = classes.pop() if len(classes) == 1 else None
    inside = [item for item in module if alone is not None and class_of(item) is alone]
    outside = [item for item in module if item not in inside]
    is_free = not (_has_any(inside, in_order) and _has_any(outside, in_order))
    if inside and outside and is_free and not _module_fixtures(inside) & _module_fixtures(outside):
        yield from (outside, inside)
    else:
        yield module


def _by_state(unit: _Unit, in_order: Collection[pytest.Item], states: StateOrder) -> Iterator[_Unit]:
    """Yield the tests of a unit in units with one board state each, unless these would share a module fixture."""
    if not states.is_any:
        yield unit
        return
    parts = states.parts(unit)
    shared = [_module_fixtures(part) for part in parts]
    is_shared = len(set[object]().union(*shared)) < sum(map(len, shared))
    if is_shared or _has_any(unit, in_order):
        yield states.arranged(unit, in_order)
    else:
        yield from (states.arranged(part, in_order) for part in parts)


def _module_fixtures(unit: _Unit) -> set[object]:
    """Return the fixtures of a unit that have the scope of a module or package."""
    return {
        fixturedef
        for item in unit
        for name in getattr(item, "fixturenames", ())
        for fixturedef in fixture_definitions(item, name)
        if fixturedef.scope in ("module", "package")
    }

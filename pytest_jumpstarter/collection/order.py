"""
The order of tests: those without devices first, then grouped by device, so that no board is held longer than needed.

Whole modules move, so that no module fixture runs twice. A class moves alone if only this class of its module needs a
device and it shares no module fixture with the rest. Inside a module or class, tests keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.pytest_private import fixture_definitions

_Unit = list[pytest.Item]


def grouped_by_device(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in an order that holds devices for the shortest time."""
    units = [unit for _, module in groupby(items, _module) for unit in _units(list(module))]
    first: dict[object, int] = {}
    keys = [_devices(unit) for unit in units]
    for position, key in enumerate(keys):
        for device in key:
            first.setdefault(device, position)
    ranks = [(min((first[device] for device in key), default=-1), len(key)) for key in keys]
    order = sorted(range(len(units)), key=lambda position: ranks[position])
    return [item for position in order for item in units[position]]


def _module(item: pytest.Item) -> pytest.Item | pytest.Collector:
    return item.getparent(pytest.Module) or item


def _class(item: pytest.Item) -> pytest.Class | None:
    classes = [node for node in item.listchain() if isinstance(node, pytest.Class)]
    return classes[0] if classes else None


def _devices(unit: _Unit) -> dict[object, None]:
    """Return the devices of a unit's tests, in order of first use; different parameters are different devices."""
    devices: dict[object, None] = {}
    for item in unit:
        callspec = getattr(item, "callspec", None)
        for role, wish in devices_of(item).planned.items():
            devices[role, wish, repr(callspec.params.get(role)) if callspec is not None else ""] = None
    return devices


def _units(module: _Unit) -> Iterator[_Unit]:
    """Yield the tests of a module as one unit, or as two: without and with devices."""
    classes = {_class(item) for item in module if devices_of(item).planned}
    alone = classes.pop() if len(classes) == 1 else None
    inside = [item for item in module if alone is not None and _class(item) is alone]
    outside = [item for item in module if item not in inside]
    if inside and outside and not _module_fixtures(inside) & _module_fixtures(outside):
        yield from (outside, inside)
    else:
        yield module


def _module_fixtures(unit: _Unit) -> set[object]:
    """Return the fixtures of a unit that have the scope of a module or package."""
    return {
        fixturedef
        for item in unit
        for name in getattr(item, "fixturenames", ())
        for fixturedef in fixture_definitions(item, name)
        if fixturedef.scope in ("module", "package")
    }

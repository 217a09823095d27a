"""
The order of tests: those without devices first, then grouped by device, so that boards are held for as long as needed.

What moves is a module, or a class where it alone in its module needs a device and shares no fixture of the module with
the rest: so no module fixture runs twice. Within that, tests keep their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pytest

from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.pytest_private import fixture_definitions

_Unit = list[pytest.Item]


def arranged(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which devices are held for the shortest time."""
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
    """Return what a unit's tests need, role by role, in the order of need; a parameter may tell two devices apart."""
    devices: dict[object, None] = {}
    for item in unit:
        callspec = getattr(item, "callspec", None)
        for role, wish in devices_of(item).planned.items():
            devices[role, wish, repr(callspec.params.get(role)) if callspec is not None else ""] = None
    return devices


def _units(module: _Unit) -> Iterator[_Unit]:
    """Yield the one or two units of a module's tests."""
    classes = {_class(item) for item in module if devices_of(item).planned}
    alone = classes.pop() if len(classes) == 1 else None
    inside = [item for item in module if alone is not None and _class(item) is alone]
    outside = [item for item in module if item not in inside]
    if inside and outside and not _lasting(inside) & _lasting(outside):
        yield from (outside, inside)
    else:
        yield module


def _lasting(unit: _Unit) -> set[object]:
    """Return the fixtures of a unit that live as long as its module or package."""
    return {
        fixturedef
        for item in unit
        for name in getattr(item, "fixturenames", ())
        for fixturedef in fixture_definitions(item, name)
        if fixturedef.scope in ("module", "package")
    }

"""
Skips tests whose leased device lacks what they need, with the reason.

Registered only if a collected test needs something: by `device_fixture(requires=…)` or the marker `jumpstarter`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.devices_of import Needs, devices_of, needs_of, wanted_of
from pytest_jumpstarter.pytest_private import skipped
from pytest_jumpstarter.roles import wish_of
from pytest_jumpstarter.running.device_fixtures import device_fixtures
from pytest_jumpstarter.selector import Selector

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.leasing import Wanted


class Requirements:
    """Compares devices with the needs of a test: before the test starts, or when a device is set up for it."""

    def __init__(self, session: pytest.Session) -> None:
        self._item: pytest.Item | None = None
        self._devices: dict[str, tuple[Wanted, Device]] = {}
        device_fixtures(session).checks.append(self.check)

    def check(self, item: pytest.Item, role: str) -> None:
        """Skip a test if its device of this role is already set up and lacks what the test needs."""
        devices = devices_of(item)
        wanted, device = self._devices.get(role, (None, None))
        if device is not None and wanted == wanted_of(item, role, devices.wishes[role]):
            _skip_if_lacking(device, needs_of(item, devices.wishes)[role])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip a test if a device that is already set up lacks what it needs, before its fixtures are set up."""
        self._item = item
        for role in devices_of(item).planned:
            self.check(item, role)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Skip the test if the device that was just set up lacks what it needs; other tests can use the fixture."""
        __tracebackhide__ = True  # for errors in the fixture
        device = yield
        role, wish = fixturedef.argname, wish_of(fixturedef)
        if self._item is not None and wish is not None:
            self._devices[role] = wanted_of(self._item, role, wish), device
            _skip_if_lacking(device, needs_of(self._item, devices_of(self._item).wishes | {role: wish})[role])
        return device

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Forget a device whose fixture was torn down."""
        if wish_of(fixturedef) is not None:
            self._devices.pop(fixturedef.argname, None)


def _skip_if_lacking(device: Device, needs: Needs) -> None:
    if lacks := ", ".join(_lacks(device, needs)):
        raise skipped(f"{device} lacks what the test needs: {lacks}")


def _lacks(device: Device, needs: Needs) -> Iterator[str]:
    for path in dict.fromkeys(needs.requires):
        if path not in device.drivers:
            near = get_close_matches(path, device.drivers, n=1)
            yield f"no driver {path!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    labels = device.exporter.labels
    for selector in dict.fromkeys(needs.labels):
        if labels is None:
            yield f"its labels are unknown, so {selector} cannot be checked"
        else:
            yield from (f"its labels do not match {term}" for term in Selector.parse(selector).unmet(labels))

"""
`DevicesOf`: which devices a test has. Verdicts, evidence, properties, retries, schedule and reports ask it.

Before a test runs, its signature, its fixtures and its markers tell (`planned`). While it runs, each lookup of a device
fixture counts as well, whether the fixture is set up for it or stands already (`used`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import pytest

from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.roles import Wish, roles_of

UNSEEN = "may ask for more devices while it runs (request.getfixturevalue, steps of pytest-bdd)"
"""Words for a test of which not all devices are known before it runs."""

RECORD_FORMAT: Literal["pytest-jumpstarter-record"] = "pytest-jumpstarter-record"
"""By which the record on a report of a test with devices is known (evidence/record.py), also where none ever comes."""

_DEVICES = pytest.StashKey["DevicesOf"]()


class DevicesOf:
    """
    The devices of one test, by role.

    Attributes:
        failure: Why a device could not be had when the test asked for it; None if all could.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.failure: DeviceError | None = None
        self._item = item
        self._used: dict[str, Wish] = {}

    @cached_property
    def planned(self) -> Mapping[str, Wish]:
        """What the test asks for by its signature, its fixtures and its markers: wishes by role."""
        return roles_of(self._item)

    @property
    def roles(self) -> list[str]:
        """The roles that the test asks for, then those that it looked up besides."""
        return list(self.wishes)

    @property
    def wishes(self) -> dict[str, Wish]:
        """What the fixtures of all these devices say, by role."""
        return {**self.planned, **self._used}

    @property
    def unplanned(self) -> set[str]:
        """The roles that the test looked up and that nothing told of before."""
        return self._used.keys() - self.planned.keys()

    @property
    def may_look_up_more(self) -> bool:
        """Whether the test may ask for devices by `request.getfixturevalue`, which nobody sees before it runs."""
        from pytest_jumpstarter.pytest_private import uses_request

        return uses_request(self._item)

    def note(self, role: str, wish: Wish) -> None:
        """Note that the test looked up the device of `role`, of which the fixture says `wish`."""
        self._used[role] = wish

    def begin(self) -> None:
        """Forget what was looked up: the test begins, perhaps once more."""
        self._used.clear()
        self.failure = None


def devices_of(item: pytest.Item) -> DevicesOf:
    """Return the devices of a test."""
    if (found := item.stash.get(_DEVICES, None)) is None:
        found = item.stash[_DEVICES] = DevicesOf(item)
    return found

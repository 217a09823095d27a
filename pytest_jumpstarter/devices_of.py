"""
`DevicesOf`: the devices of a test. Verdicts, evidence, properties, retries, schedule and reports all use it.

Before a test runs, its devices are read from its signature, its fixtures and its markers (`planned`). While it runs,
each lookup of a device fixture is added (`note`), whether the fixture is set up for it or existed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import pytest

from pytest_jumpstarter.errors import DeviceError
from pytest_jumpstarter.roles import Wish, roles_of

UNSEEN = "may ask for more devices while it runs (request.getfixturevalue, steps of pytest-bdd)"
"""The text for a test whose devices are not all known before it runs."""

RECORD_FORMAT: Literal["pytest-jumpstarter-record"] = "pytest-jumpstarter-record"
"""Identifies the record on a report (evidence/record.py). It is here because every run needs it."""

_DEVICES = pytest.StashKey["DevicesOf"]()


class DevicesOf:
    """
    The devices of one test, by role.

    Attributes:
        failure: Why the test did not get a device that it requested; None if it got all.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.failure: DeviceError | None = None
        self._item = item
        self._used: dict[str, Wish] = {}

    @cached_property
    def planned(self) -> Mapping[str, Wish]:
        """What the test requests by its signature, its fixtures and its markers: wishes by role."""
        return roles_of(self._item)

    @property
    def roles(self) -> list[str]:
        """The roles that the test requests, then those that it looked up while it ran."""
        return list(self.wishes)

    @property
    def wishes(self) -> dict[str, Wish]:
        """The arguments of the fixtures of all these devices, by role."""
        return {**self.planned, **self._used}

    @property
    def unplanned(self) -> set[str]:
        """The roles that the test looked up and that were not known before it ran."""
        return self._used.keys() - self.planned.keys()

    @property
    def may_look_up_more(self) -> bool:
        """Whether the test may request devices by `request.getfixturevalue`, which is unknown before it runs."""
        from pytest_jumpstarter.pytest_private import uses_request

        return uses_request(self._item)

    def note(self, role: str, wish: Wish) -> None:
        """Note that the test looked up the device of `role`, whose fixture has the arguments `wish`."""
        self._used[role] = wish

    def begin(self) -> None:
        """Forget all lookups, because the test starts, perhaps for another attempt."""
        self._used.clear()
        self.failure = None


def devices_of(item: pytest.Item) -> DevicesOf:
    """Return the devices of a test."""
    if (found := item.stash.get(_DEVICES, None)) is None:
        found = item.stash[_DEVICES] = DevicesOf(item)
    return found

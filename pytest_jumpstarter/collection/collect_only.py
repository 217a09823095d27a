"""What each test asks for, shown with `--collect-only`; registered where that is given and a test needs a device."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.devices_of import UNSEEN, devices_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.roles import Wish, wanted_of


class DeviceListing:
    """
    Lists the roles of tests below what pytest itself shows; not with `-q`, whose lines are for programs.

    Args:
        items: The collected tests.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a line for each test that needs a device, or may ask for one while it runs."""
        lines = [f"{item.nodeid}: {words}" for item in self._items if (words := _devices(item))]
        if terminalreporter.verbosity < 0 or not lines:
            return
        terminalreporter.section("jumpstarter: devices")
        for line in lines:
            terminalreporter.write_line(line)


def _devices(item: pytest.Item) -> str:
    devices = devices_of(item)
    unseen = [UNSEEN] if devices.may_look_up_more else []
    return ", ".join([*(_words(item, role, wish) for role, wish in devices.planned.items()), *unseen])


def _words(item: pytest.Item, role: str, wish: Wish) -> str:
    try:
        return f"{role} ({wanted_of(item, role, wish)})"
    except ConfigError as exc:
        return f"{role} ({exc})"

"""The devices that each test requests, for `--collect-only`."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.devices_of import UNSEEN, devices_of, wanted_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.roles import Wish


class DeviceListing:
    """
    Lists the devices of tests after pytest's own output; not with `-q`, whose output is for programs.

    Registered with `--collect-only`, if a test needs a device or an option of this plugin is set.

    Args:
        items: The collected tests.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a line for each test that needs a device, or may request one while it runs."""
        lines = [f"{item.nodeid}: {text}" for item in self._items if (text := _devices(item))]
        if terminalreporter.verbosity < 0 or not lines:
            return
        terminalreporter.section("jumpstarter: devices")
        for line in lines:
            terminalreporter.write_line(line)


def _devices(item: pytest.Item) -> str:
    devices = devices_of(item)
    unseen = [UNSEEN] if devices.may_look_up_more else []
    return ", ".join([*(_device(item, role, wish) for role, wish in devices.planned.items()), *unseen])


def _device(item: pytest.Item, role: str, wish: Wish) -> str:
    try:
        return f"{role} ({wanted_of(item, role, wish)})"
    except ConfigError as exc:
        return f"{role} ({exc})"

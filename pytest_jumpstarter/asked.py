"""What each test asks for, shown with `--collect-only`; registered where that is given and a test needs a device."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.devices_of import UNSEEN, devices_of
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.roles import Wish, wanted_of


class Asked:
    """
    Lists the roles of tests below what pytest itself shows; not with `-q`, whose lines are for programs.

    Args:
        items: The collected tests.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a line for each test that needs a device, or may ask for one while it runs."""
        if terminalreporter.verbosity < 0:
            return
        terminalreporter.section("jumpstarter: devices")
        for item in self._items:
            devices = devices_of(item)
            words = [_words(item, role, wish) for role, wish in devices.planned.items()]
            if devices.may_look_up_more:
                words.append(UNSEEN)
            if words:
                terminalreporter.write_line(f"{item.nodeid}: {', '.join(words)}")


def _words(item: pytest.Item, role: str, wish: Wish) -> str:
    try:
        return f"{role} ({wanted_of(item, role, wish)})"
    except ConfigError as exc:
        return f"{role} ({exc})"

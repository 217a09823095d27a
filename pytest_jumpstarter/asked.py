"""What each test asks for, shown with `--collect-only`; registered where that is given and a test needs a device."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.roles import roles_of, wanted_of


class Asked:
    """
    Lists the roles of tests below what pytest itself shows; not with `-q`, whose lines are for programs.

    Args:
        items: The collected tests.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a line for each test that needs a device."""
        if terminalreporter.verbosity < 0:
            return
        terminalreporter.section("jumpstarter: devices")
        for item in self._items:
            if roles := roles_of(item):
                terminalreporter.write_line(f"{item.nodeid}: {', '.join(_words(item, role) for role in roles)}")


def _words(item: pytest.Item, role: str) -> str:
    try:
        return f"{role} ({wanted_of(item, role)})"
    except ConfigError as exc:
        return f"{role} ({exc})"

"""
Roles: what a device fixture requests, and what each collected test requests.

All of it comes from the suite itself, its markers and the settings; nothing here calls the lab.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from types import ModuleType
from typing import Any, Literal
from weakref import WeakKeyDictionary

import pytest

from pytest_jumpstarter.option_errors import OptionError, SelectorError
from pytest_jumpstarter.options import SCOPES

ROLES: pytest.StashKey[set[str]] = pytest.StashKey()
"""The names of all device fixtures that pytest has found."""

STATES: pytest.StashKey[dict[str, list[Any]]] = pytest.StashKey()
"""The board states that pytest has found, by the names of their fixtures (states/fixture.py)."""

RECORD_FORMAT: Literal["pytest-jumpstarter-record"] = "pytest-jumpstarter-record"
"""Identifies the record on a report (evidence/record.py). It is here because every run needs it."""

COLLECTED: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()
"""The tests of a session, in the order in which pytest collected them. It is here because every run needs it."""

USAGE_ERROR = "jumpstarter_usage_error"
"""The key of a worker's usage error in the `workeroutput` of pytest-xdist."""

MARKER = (  # `--markers` takes what is before the first colon for its signature
    "jumpstarter(requires=[DRIVER, ...], labels=SELECTOR, spoils=True|False): "
    "what the leased device must have, otherwise the test is skipped; 'ROLE:' before a driver or selector names the "
    "device; spoils: whether the test leaves the board in no known state"
)


class Wish:
    """
    What a device fixture requests: the arguments of `device_fixture`.

    Attributes:
        selector: Label selector of the exporter.
        exporter: Name of the exporter.
        scope: Scope of the fixture; None for `--jmp-scope`.
        requires: Dotted paths of the drivers that the device must have.
        selectors: Selectors of several kinds of board; the tests run once for each.
        source: What messages call the source of these values; empty for `device_fixture of ROLE`.
    """

    def __init__(
        self,
        *,
        selector: str | None = None,
        exporter: str | None = None,
        scope: str | None = None,
        requires: tuple[str, ...] = (),
        selectors: tuple[str, ...] = (),
        source: str = "",
    ) -> None:
        self.selector = selector
        self.exporter = exporter
        self.scope = scope
        self.requires = requires
        self.selectors = selectors
        self.source = source

    @property
    def is_empty(self) -> bool:
        """Whether the fixture has no arguments."""
        return vars(self) == vars(Wish())


_WISHES: WeakKeyDictionary[object, Wish] = WeakKeyDictionary()
_PLANNED: pytest.StashKey[dict[str, Wish]] = pytest.StashKey()


def remember_wish(function: object, wish: Wish) -> None:
    """Note the wish of a device fixture, or of its function or class method."""
    _WISHES[_function(function)] = wish


def wish_of(fixturedef: pytest.FixtureDef[Any]) -> Wish | None:
    """Return the wish of a device fixture; None for any other fixture."""
    return _WISHES.get(_function(fixturedef.func)) if is_device_fixture(fixturedef) else None


def is_device_fixture(fixturedef: pytest.FixtureDef[Any]) -> bool:
    """Return whether a fixture yields a leased device; another fixture may have the same name."""
    return _function(fixturedef.func) in _WISHES


def _function(function: object) -> object:
    return getattr(function, "__func__", function)


def check_arguments(selectors: Iterable[str], scope: str | None) -> None:
    """
    Check the arguments of `device_fixture`; for an error, pytest shows the line of the conftest.

    Raises:
        SelectorError, OptionError: An argument is invalid.
    """
    __tracebackhide__ = True
    for selector in selectors:
        from pytest_jumpstarter.selector import Selector

        try:
            Selector.parse(selector)
        except SelectorError as exc:
            raise SelectorError(f"device_fixture: {exc}") from None  # or pytest would show our code too
    if scope is not None and scope not in SCOPES:
        raise OptionError(f"device_fixture: {scope!r} is not a scope; choose from {', '.join(SCOPES)}")


def declared_roles(plugins: Iterable[object]) -> dict[str, Wish]:
    """Return the device fixtures that have arguments, of the plugins and conftest files that are loaded now."""
    modules = [vars(plugin) for plugin in plugins if isinstance(plugin, ModuleType)]
    named = [(name, value) for names in modules for name, value in names.items() if isinstance(value, Hashable)]
    return {name: _WISHES[value] for name, value in named if value in _WISHES and not _WISHES[value].is_empty}


def uses_device(fixture: object, plugins: Iterable[object]) -> bool:
    """Return whether a fixture of a plugin yields a device of ours, itself or by a fixture that it requests."""
    modules = [vars(plugin) for plugin in plugins if isinstance(plugin, ModuleType)]
    requested = [names[name] for name in arguments_of(fixture) for names in modules if name in names]
    is_device = any(isinstance(each, Hashable) and each in _WISHES for each in (fixture, *requested))
    return is_device or "jumpstarter" in arguments_of(fixture)


def arguments_of(fixture: object) -> tuple[str, ...]:
    """Return the names of the fixtures that a fixture of a plugin requests."""
    import inspect

    try:
        return tuple(inspect.signature(fixture).parameters)  # type: ignore[arg-type]  # whatever the plugin has there
    except (TypeError, ValueError):
        return ()


def roles_of(item: pytest.Item) -> dict[str, Wish]:
    """Return the roles of the devices that a test requests, itself or through its fixtures."""
    if (planned := item.stash.get(_PLANNED, None)) is None:
        names = item.config.stash[ROLES].intersection(getattr(item, "fixturenames", ()))
        wishes = {name: _wish_of(item, name) for name in sorted(names)}
        planned = item.stash[_PLANNED] = {name: wish for name, wish in wishes.items() if wish is not None}
    return planned


def _wish_of(item: pytest.Item, name: str) -> Wish | None:
    """Return the wish of the device fixture that has this name in a test; None if another fixture has the name."""
    from pytest_jumpstarter.pytest_private import fixture_definitions

    for fixturedef in reversed(fixture_definitions(item, name)):
        if (wish := wish_of(fixturedef)) is not None:
            return wish
        if name not in fixturedef.argnames:  # an override that uses the fixture that it overrides has it as argument
            return None
    return None

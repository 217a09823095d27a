"""
Roles: what a device fixture requests, and what each collected test requests.

All of it comes from the suite itself, its markers and the settings; nothing here calls the lab.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import pytest

from pytest_jumpstarter.option_errors import OptionError, SelectorError
from pytest_jumpstarter.options import SCOPES
from pytest_jumpstarter.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted

ROLES = pytest.StashKey[set[str]]()
"""The names of all device fixtures that pytest has found."""

STATES = pytest.StashKey[dict[str, list[Any]]]()
"""The board states that pytest has found, by the names of their fixtures (states/fixture.py)."""

RECORD_FORMAT: Literal["pytest-jumpstarter-record"] = "pytest-jumpstarter-record"
"""Identifies the record on a report (evidence/record.py). It is here because every run needs it."""

COLLECTED = pytest.StashKey[list[pytest.Item]]()
"""The tests of a session, in the order in which pytest collected them. It is here because every run needs it."""

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


class ExporterName(str):
    """
    A parameter of a device fixture that is the name of an exporter; any other parameter is a selector.

    Attributes:
        listed: The exporters from among which it was taken.
    """

    __slots__ = ("listed",)
    listed: tuple[str, ...]

    @classmethod
    def all_of(cls, names: Sequence[str]) -> list[ExporterName]:
        """Return one for each exporter that was listed."""
        found = [cls(name) for name in names]
        for each in found:
            each.listed = tuple(names)
        return found


_WISHES: WeakKeyDictionary[object, Wish] = WeakKeyDictionary()
_PLANNED = pytest.StashKey[dict[str, Wish]]()


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


def wanted_of(item: pytest.Item, role: str, wish: Wish) -> Wanted:
    """Return the device that a test wants for one of its roles; `wish` is that of the fixture."""
    callspec = getattr(item, "callspec", None)
    parameter = callspec.params.get(role) if callspec is not None else None
    return wanted_device(item.config.stash[SETTINGS], role, wish, parameter)


def wanted_device(settings: Settings, role: str, wish: Wish, parameter: object = None) -> Wanted:
    """
    Merge the wish of a device fixture with the settings for its role and the fixture's parameter.

    Settings win over the fixture; the parameter, a selector or an `ExporterName`, wins over both.

    Raises:
        OptionError: The parameter is neither a selector nor an `ExporterName`.
    """
    from pytest_jumpstarter.leasing import Wanted

    selector, exporter, lease = (settings.find(name, role) for name in ("selector", "exporter", "lease"))
    texts = {"selector": selector.text if selector else None, "exporter": exporter.text if exporter else None}
    sources = [setting.source for setting in (selector, exporter) if setting is not None]
    if not sources and (wish.selector or wish.exporter):  # with a setting, the fixture's arguments do not count
        texts, sources = (
            {"selector": wish.selector, "exporter": wish.exporter},
            [wish.source or f"device_fixture of {role}"],
        )
    listed: tuple[str, ...] = ()
    if isinstance(parameter, ExporterName) and (each := settings.find("each", role)) is not None:
        texts, sources, listed = {"selector": each.text, "exporter": str(parameter)}, [each.source], parameter.listed
    elif parameter is not None:
        kind, text = _parameter(role, parameter)
        texts[kind] = text
        sources.append(f"parameter of {role}")
    return Wanted(
        role=role,
        selector=texts["selector"],
        exporter=texts["exporter"],
        lease=lease.text if lease else None,
        source=", ".join(sources),
        lease_source=lease.source if lease else "",
        wait=settings["wait"].value,
        allow_disabled=settings.is_on("allow-disabled"),
        listed=listed,
    )


def _parameter(role: str, parameter: object) -> tuple[str, str]:
    """Return which field of `Wanted` a parameter sets, and its text."""
    if isinstance(parameter, ExporterName):
        return "exporter", str(parameter)
    if not isinstance(parameter, str):
        raise OptionError(f"the parameter of {role!r} must be a label selector, not {parameter!r}")
    from pytest_jumpstarter.option_values import checked_selector

    return "selector", checked_selector(parameter)

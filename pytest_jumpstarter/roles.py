"""
Roles: what a device fixture says about its device, and what each collected test asks for.

Nothing here asks the lab: this is what the suite itself, its markers and the settings say.
"""

# No annotations from __future__: a NamedTuple would compile each of its own, in every run.

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import pytest

from pytest_jumpstarter.errors import OptionError, SelectorError
from pytest_jumpstarter.options import DEFAULT_ROLE, SCOPES, checked_selector
from pytest_jumpstarter.settings import SETTINGS, Settings, aim

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted

ROLES = pytest.StashKey[set[str]]()
"""The names of all device fixtures that pytest has found."""

MARKER = (
    "jumpstarter(requires=['[ROLE:]DRIVER', ...], labels='[ROLE:]SELECTOR'): "
    "what the leased device must have, or the test is skipped"
)


class Wish(NamedTuple):  # cheaper at import than a dataclass, which every run pays
    """
    What a device fixture says about its device.

    Attributes:
        selector: Label selector of the exporters that will do.
        exporter: Name of the one exporter that will do.
        scope: Scope of the fixture; None for `--jmp-scope`.
        requires: Dotted paths of the drivers that the device must have.
        selectors: Selectors of several kinds of board, on each of which the tests run.
        source: Words for where this is said; empty for the fixture.
    """

    selector: str | None = None
    exporter: str | None = None
    scope: str | None = None
    requires: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    source: str = ""


class Needs(NamedTuple):
    """
    What a test needs its leased device to have; else it is skipped.

    Attributes:
        requires: Dotted paths of drivers.
        labels: Selectors, all of which must hold.
    """

    requires: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class ExporterName(str):
    """A fixture's parameter that is the name of an exporter; other parameters are selectors."""

    __slots__ = ()


_WISHES: WeakKeyDictionary[object, Wish] = WeakKeyDictionary()


def remember_wish(function: object, wish: Wish) -> None:
    """Note that a fixture, or its function or class method, is that of a device with this wish."""
    _WISHES[_function(function)] = wish


def wish_of(fixturedef: "pytest.FixtureDef[Any]") -> Wish | None:
    """Return what a device fixture says about its device; None for a fixture that yields anything else."""
    return _WISHES.get(_function(fixturedef.func)) if is_device_fixture(fixturedef) else None


def is_device_fixture(fixturedef: "pytest.FixtureDef[Any]") -> bool:
    """Return whether a fixture yields a leased device, rather than something else under the same name."""
    return _function(fixturedef.func) in _WISHES


def _function(function: object) -> object:
    return getattr(function, "__func__", function)


def check_said(selectors: Iterable[str], scope: str | None) -> None:
    """
    Check what a device fixture is made with; pytest shows the line that makes it.

    Raises:
        SelectorError, OptionError: It makes no sense.
    """
    __tracebackhide__ = True
    for selector in selectors:
        try:
            checked_selector(selector)
        except SelectorError as exc:
            raise SelectorError(f"device_fixture: {exc}") from None  # pytest would show our code between the two
    if scope is not None and scope not in SCOPES:
        raise OptionError(f"device_fixture: {scope!r} is not a scope; choose from {', '.join(SCOPES)}")


def declared_roles(plugins: Iterable[object]) -> dict[str, Wish]:
    """Return the device fixtures that say anything, of plugins and conftest files, without conftest files to come."""
    modules = [vars(plugin) for plugin in plugins if isinstance(plugin, ModuleType)]
    named = [(name, value) for names in modules for name, value in names.items() if isinstance(value, Hashable)]
    return {name: _WISHES[value] for name, value in named if value in _WISHES and _WISHES[value] != Wish()}


def roles_of(item: pytest.Item) -> dict[str, Wish]:
    """Return the roles of the devices that a test asks for, itself or through its fixtures."""
    names = item.config.stash[ROLES].intersection(getattr(item, "fixturenames", ()))
    wishes = {name: _wish_of(item, name) for name in sorted(names)}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _wish_of(item: pytest.Item, name: str) -> Wish | None:
    """Return the wish of the device fixture that a name stands for in a test; None if it stands for another fixture."""
    from pytest_jumpstarter.pytest_private import fixture_definitions

    for fixturedef in reversed(fixture_definitions(item, name)):
        if (wish := wish_of(fixturedef)) is not None:
            return wish
        if name not in fixturedef.argnames:  # an override that builds on what it overrides asks for it
            return None
    return None


def check_sharing(settings: Settings, roles: Sequence[str], *, workers: int) -> None:
    """
    Check that a device which is given, and so is one only, is not asked for several times.

    Args:
        settings: Where devices come from.
        roles: Those that the tests ask for.
        workers: How many processes run tests.

    Raises:
        OptionError: It is; the message says by whom.
    """
    leases = {role: found for role in roles if (found := settings.find("lease", role)) is not None}
    given = {role: f"lease {lease.text} ({lease.source})" for role, lease in leases.items()}
    if settings.mode == "shell":
        given = dict.fromkeys(roles, "inside a jmp shell there")
    elif settings.mode == "direct":
        given = dict.fromkeys(roles[:1], f"{settings['direct'].text} ({settings['direct'].source})")
    for place in given.values():
        same = [role for role in given if given[role] == place]
        if workers > 1:
            raise OptionError(f"{place} is one device, and {workers} workers ask for it: leave out -n, or give -n 1")
        if len(same) > 1:
            raise OptionError(f"{place} is one device, and the tests ask for several: {', '.join(same)}")


def needs_of(item: pytest.Item, wishes: Mapping[str, Wish]) -> dict[str, Needs]:
    """
    Return what a test needs each of its devices to have: its fixture's words, then its markers', outermost first.

    Args:
        item: The test.
        wishes: What the fixtures of its devices say, by role.

    Raises:
        OptionError: A marker makes no sense; the message names it and the test.
    """
    needs = {role: Needs(requires=wish.requires) for role, wish in wishes.items()}
    for mark in reversed(list(item.iter_markers("jumpstarter")) if needs else []):
        for kind, role, value in _marked(item, mark, wishes):
            if role in needs:
                there = getattr(needs[role], kind)
                needs[role] = needs[role]._replace(**{kind: (*there, value)})
    return needs


def _marked(item: pytest.Item, mark: pytest.Mark, roles: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (kind of need, role, value) of one marker; a value without a role is for `dut`, or for the only role."""
    default = next(iter(roles)) if len(roles) == 1 else DEFAULT_ROLE
    where = f"@pytest.mark.jumpstarter of {item.nodeid}"
    if mark.args or mark.kwargs.keys() - {"requires", "labels"}:
        raise OptionError(f"{where}: it takes requires=[DRIVER, …] and labels=SELECTOR, and nothing else")
    for kind in ("requires", "labels"):
        given = mark.kwargs.get(kind, ())
        for text in (given,) if isinstance(given, str) else given:
            role, value = aim(str(text), default)
            if role not in item.config.stash[ROLES]:
                raise OptionError(f"{where}: no device fixture is named {role!r} (in {kind}={text!r})")
            yield kind, role, _checked(kind, value, where)


def _checked(kind: str, value: str, where: str) -> str:
    if kind == "labels":
        try:
            checked_selector(value)
        except SelectorError as exc:
            raise OptionError(f"{where}: {exc}") from exc
    elif not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", value):
        raise OptionError(f"{where}: {value!r} is no driver's name or dotted path")
    return value


def wanted_of(item: pytest.Item, role: str, wish: Wish) -> "Wanted":
    """Return the device that a test wants for one of its roles, of which the fixture says `wish`."""
    callspec = getattr(item, "callspec", None)
    parameter = callspec.params.get(role) if callspec is not None else None
    return wanted_device(item.config.stash[SETTINGS], role, wish, parameter)


def wanted_device(settings: Settings, role: str, wish: Wish, parameter: object = None) -> "Wanted":
    """
    Merge what a fixture says about its device with what is set for its role.

    A setting beats the fixture; the parameter of a fixture that has one, a selector or an `ExporterName`, beats both.

    Raises:
        OptionError: The parameter is neither.
    """
    from pytest_jumpstarter.leasing import Wanted

    selector, exporter, lease = (settings.find(name, role) for name in ("selector", "exporter", "lease"))
    texts = {"selector": selector and selector.text, "exporter": exporter and exporter.text}
    sources = [setting.source for setting in (selector, exporter) if setting is not None]
    if not sources and (wish.selector or wish.exporter):  # a setting makes the fixture's own words moot
        texts, sources = (
            {"selector": wish.selector, "exporter": wish.exporter},
            [wish.source or f"device_fixture of {role}"],
        )
    if isinstance(parameter, ExporterName) and (each := settings.find("each", role)) is not None:
        texts, sources = {"selector": each.text, "exporter": str(parameter)}, [each.source]
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
    )


def _parameter(role: str, parameter: object) -> tuple[str, str]:
    """Return what kind of wish a parameter is, and its text."""
    if isinstance(parameter, ExporterName):
        return "exporter", str(parameter)
    if not isinstance(parameter, str):
        raise OptionError(f"the parameter of {role!r} is a label selector, and {parameter!r} is none")
    return "selector", checked_selector(parameter)

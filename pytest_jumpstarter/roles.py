"""
Roles: what a device fixture requests, and what each collected test requests.

All of it comes from the suite itself, its markers and the settings; nothing here calls the lab.
"""

# No annotations from __future__: a NamedTuple would compile each of its annotations, in every run.

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import pytest

from pytest_jumpstarter.errors import OptionError, SelectorError
from pytest_jumpstarter.options import DEFAULT_ROLE, SCOPES, checked_selector
from pytest_jumpstarter.settings import SETTINGS, Settings, split_role

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted

ROLES = pytest.StashKey[set[str]]()
"""The names of all device fixtures that pytest has found."""

MARKER = (
    "jumpstarter(requires=['[ROLE:]DRIVER', ...], labels='[ROLE:]SELECTOR'): "
    "what the leased device must have; otherwise the test is skipped"
)


class Wish(NamedTuple):  # cheaper at import than a dataclass, which every run pays
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

    selector: str | None = None
    exporter: str | None = None
    scope: str | None = None
    requires: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    source: str = ""


class Needs(NamedTuple):
    """
    What the leased device must have for a test; otherwise the test is skipped.

    Attributes:
        requires: Dotted paths of drivers.
        labels: Selectors that the labels of the exporter must all match.
    """

    requires: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class ExporterName(str):
    """A parameter of a device fixture that is the name of an exporter; any other parameter is a selector."""

    __slots__ = ()


_WISHES: WeakKeyDictionary[object, Wish] = WeakKeyDictionary()


def remember_wish(function: object, wish: Wish) -> None:
    """Note the wish of a device fixture, or of its function or class method."""
    _WISHES[_function(function)] = wish


def wish_of(fixturedef: "pytest.FixtureDef[Any]") -> Wish | None:
    """Return the wish of a device fixture; None for any other fixture."""
    return _WISHES.get(_function(fixturedef.func)) if is_device_fixture(fixturedef) else None


def is_device_fixture(fixturedef: "pytest.FixtureDef[Any]") -> bool:
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
        try:
            checked_selector(selector)
        except SelectorError as exc:
            raise SelectorError(f"device_fixture: {exc}") from None  # or pytest would show our code too
    if scope is not None and scope not in SCOPES:
        raise OptionError(f"device_fixture: {scope!r} is not a scope; choose from {', '.join(SCOPES)}")


def declared_roles(plugins: Iterable[object]) -> dict[str, Wish]:
    """Return the device fixtures that have arguments, of the plugins and conftest files that are loaded now."""
    modules = [vars(plugin) for plugin in plugins if isinstance(plugin, ModuleType)]
    named = [(name, value) for names in modules for name, value in names.items() if isinstance(value, Hashable)]
    return {name: _WISHES[value] for name, value in named if value in _WISHES and _WISHES[value] != Wish()}


def roles_of(item: pytest.Item) -> dict[str, Wish]:
    """Return the roles of the devices that a test requests, itself or through its fixtures."""
    names = item.config.stash[ROLES].intersection(getattr(item, "fixturenames", ()))
    wishes = {name: _wish_of(item, name) for name in sorted(names)}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _wish_of(item: pytest.Item, name: str) -> Wish | None:
    """Return the wish of the device fixture that has this name in a test; None if another fixture has the name."""
    from pytest_jumpstarter.pytest_private import fixture_definitions

    for fixturedef in reversed(fixture_definitions(item, name)):
        if (wish := wish_of(fixturedef)) is not None:
            return wish
        if name not in fixturedef.argnames:  # an override that uses the fixture that it overrides has it as argument
            return None
    return None


def check_sharing(settings: Settings, roles: Sequence[str], *, workers: int) -> None:
    """
    Check that several roles or workers do not request the same single device: of a lease, a shell or `--jmp-direct`.

    Args:
        settings: The settings, which name the source of devices.
        roles: The roles that the tests request.
        workers: How many processes run tests.

    Raises:
        OptionError: They do; the message names the roles.
    """
    leases = {role: found for role in roles if (found := settings.find("lease", role)) is not None}
    devices = {role: f"lease {lease.text} ({lease.source})" for role, lease in leases.items()}
    if settings.mode == "shell":
        devices = dict.fromkeys(roles, "the exporter of the jmp shell")
    elif settings.mode == "direct":
        devices = dict.fromkeys(roles[:1], f"{settings['direct'].text} ({settings['direct'].source})")
    for device in devices.values():
        same = [role for role in devices if devices[role] == device]
        if workers > 1:
            raise OptionError(f"{device} is one device, but {workers} workers request it: use no -n, or -n 1")
        if len(same) > 1:
            raise OptionError(f"{device} is one device, but the tests request several: {', '.join(same)}")


def needs_of(item: pytest.Item, wishes: Mapping[str, Wish]) -> dict[str, Needs]:
    """
    Return what each device of a test must have: first the needs of its fixture, then those of markers, outermost first.

    Args:
        item: The test.
        wishes: The wishes of the fixtures of its devices, by role.

    Raises:
        OptionError: A marker is invalid; the message names it and the test.
    """
    needs = {role: Needs(requires=wish.requires) for role, wish in wishes.items()}
    for mark in reversed(list(item.iter_markers("jumpstarter")) if needs else []):
        for kind, role, value in _marked(item, mark, wishes):
            if role in needs:
                values = getattr(needs[role], kind)
                needs[role] = needs[role]._replace(**{kind: (*values, value)})
    return needs


def _marked(item: pytest.Item, mark: pytest.Mark, roles: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (kind of need, role, value) of one marker; a value without a role is for `dut`, or for the only role."""
    default = next(iter(roles)) if len(roles) == 1 else DEFAULT_ROLE
    where = f"@pytest.mark.jumpstarter of {item.nodeid}"
    if mark.args or mark.kwargs.keys() - {"requires", "labels"}:
        raise OptionError(f"{where}: the only arguments are requires=[DRIVER, …] and labels=SELECTOR")
    for kind in ("requires", "labels"):
        given = mark.kwargs.get(kind, ())
        for text in (given,) if isinstance(given, str) else given:
            role, value = split_role(str(text), default)
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
        raise OptionError(f"{where}: {value!r} is not the name or dotted path of a driver")
    return value


def wanted_of(item: pytest.Item, role: str, wish: Wish) -> "Wanted":
    """Return the device that a test wants for one of its roles; `wish` is that of the fixture."""
    callspec = getattr(item, "callspec", None)
    parameter = callspec.params.get(role) if callspec is not None else None
    return wanted_device(item.config.stash[SETTINGS], role, wish, parameter)


def wanted_device(settings: Settings, role: str, wish: Wish, parameter: object = None) -> "Wanted":
    """
    Merge the wish of a device fixture with the settings for its role and the fixture's parameter.

    Settings win over the fixture; the parameter, a selector or an `ExporterName`, wins over both.

    Raises:
        OptionError: The parameter is neither a selector nor an `ExporterName`.
    """
    from pytest_jumpstarter.leasing import Wanted

    selector, exporter, lease = (settings.find(name, role) for name in ("selector", "exporter", "lease"))
    texts = {"selector": selector and selector.text, "exporter": exporter and exporter.text}
    sources = [setting.source for setting in (selector, exporter) if setting is not None]
    if not sources and (wish.selector or wish.exporter):  # with a setting, the fixture's arguments do not count
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
    """Return which field of `Wanted` a parameter sets, and its text."""
    if isinstance(parameter, ExporterName):
        return "exporter", str(parameter)
    if not isinstance(parameter, str):
        raise OptionError(f"the parameter of {role!r} must be a label selector, not {parameter!r}")
    return "selector", checked_selector(parameter)

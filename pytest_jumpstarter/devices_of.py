"""
`DevicesOf`: the devices of a test. Verdicts, evidence, properties, retries, schedule and reports all use it.

Before a test runs, its devices are read from its signature, its fixtures and its markers (`planned`). While it runs,
each lookup of a device fixture is added (`note`), whether the fixture is set up for it or existed before. `Needs` is
what each of them must have. `wanted_of` merges the fixture of a role, the settings and a parameter to one `Wanted`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import pytest

from pytest_jumpstarter.errors import ConfigError, DeviceError, OptionError, SelectorError
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.option_values import checked_selector
from pytest_jumpstarter.options import DEFAULT_ROLE
from pytest_jumpstarter.roles import ROLES, Wish, roles_of
from pytest_jumpstarter.settings import SETTINGS, Settings, split_role

UNSEEN = "may ask for more devices while it runs (request.getfixturevalue, steps of pytest-bdd)"
"""The text for a test whose devices are not all known before it runs."""

_DEVICES: pytest.StashKey[DevicesOf] = pytest.StashKey()


class Needs(NamedTuple):
    """
    What the leased device must have for a test; otherwise the test is skipped.

    Attributes:
        requires: Dotted paths of drivers.
        labels: Selectors that the labels of the exporter must all match.
    """

    requires: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class DevicesOf:
    """
    The devices of one test, by role.

    Attributes:
        failure: Why the test did not get a device that it requested; None if it got all.
        states: The board states that the test has stood on so far, by role.
        planned: What the test requests by its signature, its fixtures and its markers: wishes by role.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.planned: Mapping[str, Wish] = roles_of(item)
        self.failure: DeviceError | None = None
        self.states: dict[str, str] = {}
        self._item = item
        self._used: dict[str, Wish] = {}

    @property
    def wanted(self) -> dict[str, Wanted]:
        """What the test wants for each planned role, without invalid requests: their fixtures raise the error."""
        found = {}
        for role, wish in self.planned.items():
            with suppress(ConfigError):
                found[role] = wanted_of(self._item, role, wish)
        return found

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

    def has(self, role: str) -> bool:
        """Return whether the device of `role` is one of them."""
        return role in self._used or role in self.planned

    def note(self, role: str, wish: Wish) -> None:
        """Note that the test looked up the device of `role`, whose fixture has the arguments `wish`."""
        self._used[role] = wish

    def begin(self) -> None:
        """Forget all lookups, because the test starts, perhaps again; hooks may have changed its fixtures."""
        self.planned = roles_of(self._item)
        self._used.clear()
        self.states.clear()
        self.failure = None


def devices_of(item: pytest.Item) -> DevicesOf:
    """Return the devices of a test."""
    if (found := item.stash.get(_DEVICES, None)) is None:
        found = item.stash[_DEVICES] = DevicesOf(item)
    return found


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
    if mark.args or mark.kwargs.keys() - {"requires", "labels", "spoils"}:
        raise OptionError(
            f"{where}: the only arguments are requires=[DRIVER, …], labels=SELECTOR and spoils=True|False"
        )
    if not isinstance(mark.kwargs.get("spoils", True), bool):
        raise OptionError(f"{where}: spoils is True or False, not {mark.kwargs['spoils']!r}")
    for kind in ("requires", "labels"):
        given = mark.kwargs.get(kind, ())
        for text in (given,) if isinstance(given, str) else given:
            role, value = split_role(str(text), default)
            if role not in item.config.stash[ROLES]:
                raise OptionError(f"{where}: no device fixture is named {role!r} (in {kind}={text!r})")
            yield kind, role, _checked(kind, value, where)


def _checked(kind: str, value: str, where: str) -> str:
    if kind == "labels":
        from pytest_jumpstarter.selector import Selector

        try:
            Selector.parse(value)
        except SelectorError as exc:
            raise OptionError(f"{where}: {exc}") from exc
    elif not re.fullmatch(r"[^\s.]+(\.[^\s.]+)*", value):
        raise OptionError(f"{where}: {value!r} is not the name or dotted path of a driver")
    return value


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
    return "selector", checked_selector(parameter)

"""How many workers `-n auto` means: as many as there are complete sets of devices to be had now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.errors import (
    AuthenticationError,
    ConfigError,
    NoDeviceSource,
    PermissionDenied,
    RequestError,
)
from pytest_jumpstarter.lab_access import LabAccess, lab_access_of
from pytest_jumpstarter.leasing.availability import Availability
from pytest_jumpstarter.roles import Wish, declared_roles, wanted_device
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.workers import NOTE

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted


_TIMEOUT = 5.0


def number_of_workers(config: pytest.Config) -> int | None:
    """
    Return how many workers can have their devices at once; None where nothing says which devices are needed.

    A worker keeps the devices of all roles that it has come across, so a set has one of each: of the roles that
    settings, plugins and initial conftest files tell of.

    Raises:
        pytest.UsageError: What is asked for cannot work.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # which xdist itself heeds
        return None
    try:
        settings = Settings.of(config)
        if is_one_device(settings):
            return 1
        roles = dict(_roles(settings, declared_roles(config.pluginmanager.get_plugins())))
        if not roles:
            return None
        there = (
            _described(settings) if settings.mode == "lab" else _listed(lab_access_of(config, settings), roles.values())
        )
        number = max(1, there.complete_sets(roles.values()))
        free = ", ".join(f"{role} {len(there.free_for(wanted))}" for role, wanted in roles.items())
    except NoDeviceSource:
        return None
    except (ConfigError, AuthenticationError, PermissionDenied) as exc:
        raise pytest.UsageError(f"-n auto: {exc}") from exc
    except RequestError as exc:
        config.stash[NOTE] = f"jumpstarter: -n auto is 1, since nobody tells what is free: {exc}"
        return 1
    config.stash[NOTE] = f"jumpstarter: -n auto is {number}, by the devices that are free: {free}"
    return number


def is_one_device(settings: Settings) -> bool:
    """Tell whether the device is given, so that only one process can have it."""
    return settings.mode in ("shell", "direct") or any(each.option.name == "lease" for each in settings.aimed())


def _roles(settings: Settings, declared: Mapping[str, Wish]) -> Iterator[tuple[str, list[Wanted]]]:
    """Yield each role with what will do for it: one device or, where tests run on several, any of these."""
    for role in dict.fromkeys([*declared, *(setting.role for setting in settings.aimed())]):
        wish = declared.get(role, Wish())
        each = settings.find("each", role)
        is_set = settings.find("selector", role) or settings.find("exporter", role)
        kinds = [each.text] if each is not None else wish.selectors if not is_set else ()
        wanted = [wanted_device(settings, role, wish, kind) for kind in kinds or (None,)]
        if all(one.selector or one.exporter for one in wanted):
            yield role, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Described:
    """An exporter of a lab file as it will be once the lab runs: nobody else is there."""

    name: str
    labels: Mapping[str, str]
    online: bool
    enabled: bool
    status: str = "AVAILABLE"


def _described(settings: Settings) -> Availability:
    """Return what the embedded lab will have, which need not run yet; gRPC is not needed to tell."""
    from pytest_jumpstarter.lab.documents import read_documents

    documents = read_documents([settings["lab"].value])
    exporters = [
        _Described(name=it.name, labels=it.labels, online=not it.is_external, enabled=it.is_enabled) for it in documents
    ]
    return Availability({None: exporters})


def _listed(lab_access: LabAccess, roles: Iterable[Iterable[Wanted]]) -> Availability:
    """Ask the lab controller: a ListExporters for each kind, and a ListLeases where exporters tell no status."""
    wishes = [one for wanted in roles for one in wanted]
    try:
        return Availability.ask(lab_access.client, wishes, with_leases=False, timeout=_TIMEOUT)
    finally:
        lab_access.close()

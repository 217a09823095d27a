"""How many workers `-n auto` means: as many as there are complete sets of devices to be had now."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.errors import (
    AuthenticationError,
    ConfigError,
    NoDeviceSource,
    PermissionDenied,
    RequestError,
)
from pytest_jumpstarter.roles import Wish, declared_roles, wanted_device
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.site import Site, site_of

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Exporter
    from pytest_jumpstarter.leasing import Wanted

NOTE = pytest.StashKey[str]()
"""Where a config keeps a line for the header that says why `-n auto` is what it is."""

_TIMEOUT = 5.0
_MOST_ROLES = 12


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
        free = (
            _free_in_lab_file(settings, roles)
            if settings.mode == "lab"
            else _free_in_lab(site_of(config, settings), roles)
        )
    except NoDeviceSource:
        return None
    except (ConfigError, AuthenticationError, PermissionDenied) as exc:
        raise pytest.UsageError(f"-n auto: {exc}") from exc
    except RequestError as exc:
        config.stash[NOTE] = f"jumpstarter: -n auto is 1, since nobody tells what is free: {exc}"
        return 1
    names = ", ".join(f"{role} {len(exporters)}" for role, exporters in free.items())
    config.stash[NOTE] = f"jumpstarter: -n auto is {_sets(free)}, by the devices that are free: {names}"
    return _sets(free)


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


def _free_in_lab_file(settings: Settings, roles: Mapping[str, list[Wanted]]) -> dict[str, set[str]]:
    """Return the names of exporters for each role in the embedded lab, which need not run yet: nobody else is there."""
    from pytest_jumpstarter.lab.documents import read_documents

    documents = [it for it in read_documents([settings["lab"].value]) if it.is_enabled and not it.is_external]
    return {
        role: {it.name for it in documents for one in wanted if one.fits(it.name, it.labels)}
        for role, wanted in roles.items()
    }


def _free_in_lab(site: Site, roles: Mapping[str, list[Wanted]]) -> dict[str, set[str]]:
    """Ask the lab controller: a ListExporters for each kind, and a ListLeases where exporters tell no status."""
    try:
        client = site.client
        found = {role: [it for one in wanted for it in _listed(client, one)] for role, wanted in roles.items()}
        is_untold = any(it.status == "UNSPECIFIED" for exporters in found.values() for it in exporters)
        leases = client.list_leases(timeout=_TIMEOUT) if is_untold else ()
        taken = {lease.exporter for lease in leases if lease.is_ready}
    finally:
        site.close()
    return {role: {it.name for it in exporters if it.name not in taken} for role, exporters in found.items()}


def _listed(client: Client, wanted: Wanted) -> list[Exporter]:
    listed = client.list_exporters(filter=wanted.selector, timeout=_TIMEOUT)
    return [
        exporter
        for exporter in listed
        if exporter.online
        and exporter.enabled is not False
        and exporter.status in ("AVAILABLE", "UNSPECIFIED")
        and wanted.exporter in (None, exporter.name)
    ]


def _sets(free: Mapping[str, Collection[str]]) -> int:
    """
    Return how many times each role can have an exporter that no other has; 1 at least.

    Source: Hall's theorem: any group of roles must find enough exporters between them
    """
    groups = [group for size in range(1, min(len(free), _MOST_ROLES) + 1) for group in combinations(free, size)]
    return max(1, min(len(set().union(*(free[role] for role in group))) // len(group) for group in groups))

"""The number of workers for `-n auto`: the number of complete sets of devices that are free now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.devices_of import wanted_device
from pytest_jumpstarter.errors import (
    AuthenticationError,
    ConfigError,
    NoDeviceSource,
    PermissionDenied,
    RequestError,
)
from pytest_jumpstarter.lab_access import LabAccess, lab_access_of
from pytest_jumpstarter.leasing.availability import Availability
from pytest_jumpstarter.leasing.patience import patiently
from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.roles import Wish, declared_roles
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.workers import NOTE
from pytest_jumpstarter.workers.refusals import Refusals

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing import Wanted


_TIMEOUT = 5.0


def number_of_workers(config: pytest.Config) -> int | None:
    """
    Return how many workers can have their devices at the same time; None if the needed devices are unknown.

    A worker keeps its devices of all roles, so a complete set has one device for each role. The known roles are those
    of the settings, of plugins and of the initial conftest files.

    Raises:
        pytest.UsageError: The configuration cannot work.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:  # xdist itself uses it
        return None
    try:
        settings = Settings.of(config)
        if is_one_device(settings):
            return 1
        roles = dict(_roles(settings, declared_roles(config.pluginmanager.get_plugins())))
        if not roles:
            return None
        availability, left_out = _availability(config, settings, roles.values())
        number = max(1, availability.complete_sets(roles.values()))
        free = ", ".join(f"{role} {len(availability.free_for(wanted))}" for role, wanted in roles.items())
    except NoDeviceSource:
        return None
    except (ConfigError, AuthenticationError, PermissionDenied) as exc:
        raise pytest.UsageError(safe(f"-n auto: {exc}")) from exc
    except RequestError as exc:
        config.stash[NOTE] = f"jumpstarter: -n auto is 1, because the free exporters are unknown: {exc}"
        return 1
    config.stash[NOTE] = f"jumpstarter: -n auto is {number}; free devices: {free}"
    if left_out:
        config.stash[NOTE] += (
            "; not counted, because an access policy refused them, or the time that --jmp-ttl asks, in the last day: "
            f"{', '.join(sorted(left_out))} (--cache-clear counts them again)"
        )
    return number


def is_one_device(settings: Settings) -> bool:
    """Return whether there is a single device, of a shell, `--jmp-direct` or `--jmp-lease`, for only one process."""
    return settings.mode in ("shell", "direct") or bool(settings.all("lease"))


def _roles(settings: Settings, declared: Mapping[str, Wish]) -> Iterator[tuple[str, list[Wanted]]]:
    """Yield each role with what it wants: one device or, if its tests run on several, one of these."""
    for role in dict.fromkeys([*declared, *(setting.role for setting in settings.choosing_devices())]):
        wish = declared.get(role, Wish())
        each = settings.find("each", role)
        is_set = settings.find("selector", role) or settings.find("exporter", role)
        kinds = [each.text] if each is not None else wish.selectors if not is_set else ()
        wanted = [wanted_device(settings, role, wish, kind) for kind in kinds or (None,)]
        if all(one.selector or one.exporter for one in wanted):
            yield role, wanted


def _availability(
    config: pytest.Config, settings: Settings, roles: Iterable[Iterable[Wanted]]
) -> tuple[Availability, set[str]]:
    """Return what the lab has without the exporters that an access policy refused lately, and the names of these."""
    if settings.mode == "lab":
        return _of_lab_file(settings), set()
    lab_access = lab_access_of(config, settings)
    availability = _of_lab_controller(lab_access, roles)
    left_out = Refusals(config, settings, lab_access).of_the_last_day() & availability.names
    return availability.without(left_out), left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class _ExporterOfLabFile:
    """An exporter of a lab file, in the state that it has when the lab has started; nobody else uses it."""

    name: str
    labels: Mapping[str, str]
    online: bool
    enabled: bool
    status: str = "AVAILABLE"


def _of_lab_file(settings: Settings) -> Availability:
    """Return what the embedded lab will have; neither a running lab nor gRPC is needed for this."""
    from pytest_jumpstarter.lab.documents import read_documents

    documents = read_documents([settings["lab"].value])
    exporters = [
        _ExporterOfLabFile(name=it.name, labels=it.labels, online=not it.is_external, enabled=it.is_enabled)
        for it in documents
    ]
    return Availability({None: exporters})


def _of_lab_controller(lab_access: LabAccess, roles: Iterable[Iterable[Wanted]]) -> Availability:
    """Return what the lab controller lists: ListExporters for each selector, ListLeases if exporters have no status."""
    wishes = [one for wanted in roles for one in wanted]
    try:
        ask = partial(Availability.ask, lab_access.client, wishes, with_leases=False, timeout=_TIMEOUT)
        return patiently(ask, wait=min(one.wait for one in wishes), has_answered=False)
    finally:
        lab_access.close()

"""What `--jmp-check` says of this machine, in the order in which things break: packages, `jmp`, ports, clock."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from typing import TYPE_CHECKING

from pytest_jumpstarter.collection.check_sheet import Fact
from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.evidence.versions import versions

if TYPE_CHECKING:
    from pytest_jumpstarter.settings import Settings

_DRIVERS = "jumpstarter-driver-"
_CLOCK_TOLERANCE = timedelta(seconds=60)


def machine_facts(settings: Settings) -> Iterator[Fact]:
    """Yield what is known before the lab is asked."""
    yield Fact("python", f"{sys.version.split()[0]}, {sys.executable}")
    yield Fact("versions", ", ".join(f"{name} {number}" for name, number in _versions()))
    yield from (Fact("packages", text, is_bad=True) for text in unmet_requirements(with_lab=settings.mode == "lab"))
    drivers = sorted({_name(each.name).removeprefix(_DRIVERS) for each in distributions() if _is_driver(each.name)})
    yield Fact("drivers", f"installed: {', '.join(drivers)}")
    yield _jmp()
    if settings.mode == "lab":
        yield from _ports(settings["lab"].value)


def clock_fact(issued: datetime | None) -> Fact | None:
    """Return whether the clock is behind that of the lab controller, which issued the token; None if it is unknown."""
    now = datetime.now(UTC)
    if issued is None:
        return None
    if issued > now + _CLOCK_TOLERANCE:
        behind = f"{(issued - now).total_seconds() / 60:.0f} minutes"
        text = f"{now.astimezone():%Y-%m-%d %H:%M}, {behind} behind the one that issued the token"
        return Fact("clock", f"{text}; set it (`timedatectl set-ntp true`): certificates and tokens depend on it", True)
    return Fact("clock", f"{now.astimezone():%Y-%m-%d %H:%M %Z}")


def unmet_requirements(*, with_lab: bool) -> Iterator[str]:
    """Yield the packages that are missing or have a version with which this plugin does not work."""
    from packaging.requirements import Requirement

    extras = ("", "lab") if with_lab else ("",)
    for requirement in map(Requirement, _requires()):
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        plain = f"{requirement.name}{requirement.specifier}"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is not installed; pip install '{plain}'"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} {found} is installed, but {plain} is needed; pip install '{plain}'"


def _requires() -> list[str]:
    try:
        return requires("pytest-jumpstarter") or []
    except PackageNotFoundError:  # it is on the path without being installed
        return []


def _versions() -> Iterator[tuple[str, str]]:
    for name, number in versions().items():
        yield name.removesuffix("_version").replace("plugin", "pytest-jumpstarter"), number


def _name(package: str) -> str:
    return package.lower().replace("_", "-")


def _is_driver(package: str | None) -> bool:
    return package is not None and _name(package).startswith(_DRIVERS)


def _jmp() -> Fact:
    beside = os.path.dirname(sys.executable)
    found = shutil.which("jmp") or shutil.which("jmp", path=beside)
    text = found or "not found; only `jmp login`, `jmp shell` and such need it: pip install jumpstarter-cli"
    return Fact("jmp", text)


def _ports(lab: str) -> Iterator[Fact]:
    """Yield the state of each device file in a lab file."""
    from pytest_jumpstarter.lab.documents import read_documents
    from pytest_jumpstarter.lab.ports import device_files, holders, objection

    try:
        documents = read_documents([lab])
    except LabError:
        return  # the start of the lab says it
    for document in documents:
        yield from (Fact("mock", notice) for notice in document.notices)
        for path in dict.fromkeys(device_files(document.config.get("export", {}))):
            by = ", ".join(holders(path))
            problem = objection(path) or (f"{path} is in use by {by}; close it there" if by else "")
            yield Fact("port", f"{document.name}: {problem or f'{path} may be opened, and is free'}", bool(problem))

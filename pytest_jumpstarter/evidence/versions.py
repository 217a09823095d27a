"""The versions of this plugin, of Jumpstarter and of pytest."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = {"plugin_version": "pytest-jumpstarter", "jumpstarter_version": "jumpstarter", "pytest_version": "pytest"}


@cache
def versions() -> dict[str, str]:
    """Return the versions of this plugin, of Jumpstarter and of pytest, without those that are unknown."""
    return {name: found for name, package in _PACKAGES.items() if (found := _version(package))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the package is on the path without being installed
        return ""

"""`Refusals`: the exporters that an access policy of the lab refuses to this client, as far as runs have learned it."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.lab_access import LabAccess
from pytest_jumpstarter.settings import Settings

_KEY = "jumpstarter/refused"
_KEPT = 86400.0  # seconds, because policies change


class Refusals:
    """
    Exporters that were refused in this run, and in runs of the last day: those are in pytest's cache.

    No listing shows access policies, so a refusal is all that tells of them. A policy may refuse only the duration, so
    what was refused with one time to live may be leased with another.

    Args:
        config: Its cache is used, if there is one (`-p no:cacheprovider`).
        settings: Say for how long leases are requested.
        lab_access: Says which client of which lab this is.

    Attributes:
        names: Those of this run.
    """

    def __init__(self, config: pytest.Config, settings: Settings, lab_access: LabAccess) -> None:
        self._cache: pytest.Cache | None = getattr(config, "cache", None)
        self._settings = settings
        self._lab_access = lab_access
        self.names: set[str] = set()

    def add(self, names: Collection[str]) -> None:
        """Note refused exporters."""
        new = set(names) - self.names
        self.names |= new
        if self._cache is not None and new:
            known = self._known() | dict.fromkeys(new, real_time.time())
            self._cache.set(_KEY, {self._request: known})

    def of_the_last_day(self) -> set[str]:
        """Return the exporters that were refused in this run, or in one of the last day."""
        return self.names | set(self._known())

    @property
    def _request(self) -> str:
        config, longest = self._lab_access.config, self._settings.find("max-hold")
        duration = min(self._settings["ttl"].value, longest.value if longest else math.inf)
        return f"{config.namespace}/{config.name} at {config.endpoint} for {format_duration(duration)}"

    def _known(self) -> dict[str, float]:
        """Return when each exporter was refused; nothing if the cache was written by somebody else."""
        found = self._cache.get(_KEY, {}) if self._cache is not None else {}
        known = found.get(self._request, {}) if isinstance(found, dict) else {}
        since = real_time.time() - _KEPT
        pairs = known.items() if isinstance(known, dict) else ()
        return {name: when for name, when in pairs if isinstance(when, int | float) and when > since}

"""How long tests took in the earlier runs of `--jmp-history`, for the line that is shown during a wait."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import pytest

from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.running import SCHEDULE
from pytest_jumpstarter.settings import SETTINGS


class EarlierRuns:
    """Reads the history at the first wait that is shown; a run without waits does not read it for this."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def seconds_of(self, wanted: Wanted) -> float:
        """Return how long the tests that wait for this device took; 0 if that is not known."""
        schedule = self._config.stash.get(SCHEDULE, None)
        if schedule is None or not self._took:
            return 0.0
        return sum(self._took.get(item.nodeid, 0.0) for item in schedule.tests_waiting_for(wanted))

    @cached_property
    def _took(self) -> Mapping[str, float]:
        if (path := self._config.stash[SETTINGS].path("history")) is None:
            return {}
        from pytest_jumpstarter.history.store import known_seconds

        return known_seconds(path)

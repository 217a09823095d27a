"""In the process that tests: records when a board was in which of its states, for the reports of tests."""

from __future__ import annotations

import itertools

import pytest

from pytest_jumpstarter.evidence.record import Record, StateTimes
from pytest_jumpstarter.host import real_time

STATE_TIMES: pytest.StashKey[StateTimesRecorder] = pytest.StashKey()
"""The recorder of this process; set if the suite has board states."""


class StateTimesRecorder:
    """
    Records transitions: when each began, when its state was reached, and when the board left it.

    All times are Unix time, as in the records of leases.

    Args:
        worker: The name of this process: that of the xdist worker, or `main`.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._numbers = itertools.count(1)
        self._latest: dict[str, StateTimes] = {}
        self._news: dict[str, StateTimes] = {}

    def begin(self, role: str, lease: str, state: str, came_from: str) -> None:
        """Note that a transition of the device of a role begins: the board leaves the state that it was in."""
        self.leave(role)
        self._latest[role] = {
            "key": f"{self._worker}-{next(self._numbers)}",
            "worker": self._worker,
            "role": role,
            "lease": lease,
            "state": state,
            "came_from": came_from,
            "began": real_time.time(),
            "reached": None,
            "left": None,
            "error": "",
        }
        self._note(role)

    def reach(self, role: str) -> None:
        """Note that the transition under way ended in its state."""
        self._latest[role]["reached"] = real_time.time()
        self._note(role)

    def fail(self, role: str, error: str) -> None:
        """Note that the transition under way failed."""
        self._latest[role]["error"] = error
        self.leave(role)

    def leave(self, role: str) -> None:
        """Note that the board has left its state, or that nobody knows any more that it is there."""
        if (latest := self._latest.pop(role, None)) is not None:
            latest["left"] = real_time.time()
            self._news[latest["key"]] = latest

    def add(self, record: Record) -> None:
        """Add the transitions that have changed since the last report to a record."""
        if self._news:
            record["states"] = [times.copy() for times in self._news.values()]
            self._news = {}

    def _note(self, role: str) -> None:
        self._news[self._latest[role]["key"]] = self._latest[role]

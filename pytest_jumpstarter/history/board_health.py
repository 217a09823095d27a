"""The health of boards: device errors per 100 leases, the time until a device is ready, slow boots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from pytest_jumpstarter.history.exact import binomial
from pytest_jumpstarter.history.results import LeaseFacts

TOLERATED_PER_100 = 5
"""Device errors per 100 leases, above which a board is unhealthy."""

_LEVEL = 0.05
_FEWEST_ERRORS = 3
_SLOW = 2.0


class BoardHealth(NamedTuple):
    """
    The health of one board.

    Attributes:
        exporter: The name of its exporter.
        leases: The number of its leases.
        device_errors: How many of them had a device error.
        ready_seconds: The median time from a lease to a device that is ready; None if it never was.
        slow_boots: How many leases took twice the median of all boards with the same labels, or longer.
        is_unhealthy: Whether the board has more device errors than tolerated, and not by chance.
    """

    exporter: str
    leases: int
    device_errors: int
    ready_seconds: float | None
    slow_boots: int
    is_unhealthy: bool

    @property
    def errors_per_100(self) -> float:
        """Device errors per 100 leases."""
        return round(100 * self.device_errors / self.leases, 1)


def health(leases: Iterable[LeaseFacts]) -> list[BoardHealth]:
    """
    Return the health of each board, by name.

    A board is unhealthy if its errors are at least three, and so many are improbable at the tolerated rate (exact
    binomial test at 5 %, divided by the number of boards).
    """
    by_board: dict[str, list[LeaseFacts]] = defaultdict(list)
    for lease in leases:
        by_board[lease.exporter].append(lease)
    by_labels: dict[str, list[float]] = defaultdict(list)
    for theirs in by_board.values():
        by_labels[theirs[-1].labels] += _ready(theirs)
    return [
        _of_board(name, theirs, by_labels[theirs[-1].labels], len(by_board))
        for name, theirs in sorted(by_board.items())
    ]


def _of_board(name: str, leases: list[LeaseFacts], siblings: list[float], boards: int) -> BoardHealth:
    errors = sum(lease.has_error for lease in leases)
    ready = _ready(leases)
    limit = _SLOW * median(siblings) if siblings else 0.0
    p = binomial(errors, len(leases), TOLERATED_PER_100 / 100) * boards
    return BoardHealth(
        exporter=name,
        leases=len(leases),
        device_errors=errors,
        ready_seconds=round(median(ready), 3) if ready else None,
        slow_boots=sum(each >= limit for each in ready) if limit else 0,
        is_unhealthy=errors >= _FEWEST_ERRORS and p <= _LEVEL,
    )


def _ready(leases: Iterable[LeaseFacts]) -> list[float]:
    return [lease.ready for lease in leases if lease.ready is not None]

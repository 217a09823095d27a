"""
How long a wait bears that the lab controller cannot be asked: decided by the finality of what came back.

========  ================================================================================================
FINAL     counts at once
REFUSAL   counts when it comes again `SECOND_LOOK` seconds later, with no answer in between
SETUP     counts at once, unless the lab controller has answered in this run: then it passes, like what follows
PASSING   is borne as long as the wait itself may take: each has its own patience, such as the time to live
UNKNOWN   likewise where a lease is held; where none is, for `UNKNOWN_PATIENCE` seconds
========  ================================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_jumpstarter.errors import Finality, RequestError

SECOND_LOOK = 1.0
"""Seconds after which a refusal of token or permission counts, if it is still one."""

UNKNOWN_PATIENCE = 20.0
"""Seconds for which a failure that nobody knows is tried again, where no lease is held."""


class Patience:
    """
    The patience of one wait.

    Args:
        seconds: What it bears from the last answer on.
        holds_lease: Whether a board is at stake.
        has_answered: Whether the lab controller has answered in this run.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        *,
        holds_lease: bool = False,
        has_answered: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._holds_lease = holds_lease
        self._has_answered = has_answered
        self._clock = clock
        self._seen = clock()
        self._refused: float | None = None

    def answered(self) -> None:
        """Note that the lab controller has answered: what came before has passed."""
        self._has_answered, self._seen, self._refused = True, self._clock(), None

    def is_over(self, error: RequestError) -> bool:
        """Note a failure, and tell whether it counts; if not, ask again after a pause."""
        now = self._clock()
        away = now - self._seen
        match error.finality:
            case Finality.FINAL:
                return True
            case Finality.REFUSAL:
                self._refused = now if self._refused is None else self._refused
                return now - self._refused >= SECOND_LOOK
            case Finality.SETUP:
                return not self._has_answered or away >= self._seconds
            case Finality.PASSING:
                return away >= self._seconds
            case Finality.UNKNOWN:
                return away >= (self._seconds if self._holds_lease else min(self._seconds, UNKNOWN_PATIENCE))

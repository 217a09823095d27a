"""
How long a wait goes on while requests to the lab controller fail; it depends on the finality of the failure.

========  ========================================================================================================
final     The wait ends at once.
refusal   The wait ends if the refusal is repeated after `SECOND_LOOK` seconds, with no answer in between.
setup     The wait ends at once, unless the lab controller has answered in this run: then as `passing`.
passing   Tried again for the patience of the wait, for example the time to live of the lease.
unknown   With a lease as `passing`; without a lease tried again for `UNKNOWN_PATIENCE` seconds.
========  ========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytest_jumpstarter.errors import RequestError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.polling import polls

T = TypeVar("T")

CONTROLLER_GRACE = 20.0
"""
Seconds for which failures of the lab controller are tried again: by a run that never got an answer, by a Dial after
the first one, and when a lease is released.
"""

SECOND_LOOK = 1.0
"""Seconds after which a repeated refusal of token or permission ends the wait."""

UNKNOWN_PATIENCE = 20.0
"""Seconds for which an unknown failure is tried again without a lease."""


class Patience:
    """
    How long one wait goes on while requests fail.

    Args:
        seconds: How long after the last answer, at most.
        has_lease: Whether there is a lease that giving up would lose.
        has_answered: Whether the lab controller has answered in this run.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        *,
        has_lease: bool = False,
        has_answered: bool = False,
        clock: Callable[[], float] = real_time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._has_lease = has_lease
        self._has_answered = has_answered
        self._clock = clock
        self._last_answer = clock()
        self._refused: float | None = None

    def answered(self) -> None:
        """Record an answer of the lab controller; earlier failures do not count any more."""
        self._has_answered, self._last_answer, self._refused = True, self._clock(), None

    def is_over(self, error: RequestError) -> bool:
        """Record a failure, and return whether it ends the wait; if not, try again after a pause."""
        now = self._clock()
        unanswered = now - self._last_answer
        match error.finality:
            case "final":
                return True
            case "refusal":
                self._refused = now if self._refused is None else self._refused
                return now - self._refused >= SECOND_LOOK
            case "setup":
                return not self._has_answered or unanswered >= self._seconds
            case "passing":
                return unanswered >= self._seconds
            case "unknown":
                return unanswered >= (self._seconds if self._has_lease else min(self._seconds, UNKNOWN_PATIENCE))


def patiently(work: Callable[[], T], *, wait: float, has_answered: bool) -> T:
    """
    Return the result of `work`; while its requests fail, try it again for `CONTROLLER_GRACE`, or `wait` if less.

    Args:
        work: Sends requests that only read.
        wait: Seconds that the user would wait in the queue (`--jmp-wait`).
        has_answered: Whether the lab controller has answered in this run.

    Raises:
        RequestError: A request failed for good, or for so long.
    """
    seconds = min(CONTROLLER_GRACE, wait)
    patience, failure = Patience(seconds, has_answered=has_answered), None
    for _ in polls(seconds):
        try:
            return work()
        except RequestError as exc:
            failure = exc
            if patience.is_over(exc):
                break
    assert failure is not None
    raise failure

"""
How often a waiting run polls the lab controller: the longer it has waited, the less often.

The lease is polled after 10 ms, then after pauses that grow by half each time: up to 25 ms in the first 0.3 s, in which
an exporter without hooks makes ready, up to 50 ms in the first second, up to 2 s in the first minute. After that a
pause is a thirtieth of the time waited, between 2 s and 15 s. For the lines that users see, a survey lists exporters
and leases: after 1 s, 30 s, 1, 2 and 5 minutes, then every 5 minutes. Each pause varies at random by ± 20 %, late
surveys by ± 70 %, so that runs that started together do not poll together.

The requests per second of N runs, when each has waited `t` seconds::

    N / 2                  in the first minute, after its first seconds
    N * 30 / t             from one minute to seven and a half
    N / 15 + N * S / 300   later, with S requests for each survey

S is 2: one page of exporters and one of leases. 200 runs send 100 requests per second after one minute, 20 after five
minutes and 15 in the end. 2,000 runs send 147 after ten minutes, even if they started at the same moment.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator

from pytest_jumpstarter.host import real_time

_FIRST, _GROWTH = 0.01, 1.5
_AT_ONCE, _SHORTEST = 0.3, 0.025
_FIRST_SECOND, _SHORT = 1.0, 0.05
_SOON, _LONG = 60.0, 2.0
_SHARE, _LONGEST = 30.0, 15.0
_SURVEYS = (1.0, 30.0, 60.0, 120.0, 300.0)
_SURVEY_EVERY = 300.0


def next_pause(waited: float, pause: float) -> float:
    """
    Return the seconds until the next poll of the lease, without jitter.

    Args:
        waited: Seconds since the wait began.
        pause: The previous result; 0 at first.
    """
    if waited > _SOON:
        return min(max(waited / _SHARE, _LONG), _LONGEST)
    longest = _SHORTEST if waited <= _AT_ONCE else _SHORT if waited <= _FIRST_SECOND else _LONG
    return min(longest, pause * _GROWTH or _FIRST)


def next_survey(waited: float, dice: random.Random) -> float:
    """Return the time of the next survey, in seconds since the wait began."""
    for moment in _SURVEYS:
        if waited < moment * 0.8:
            return moment * dice.uniform(0.8, 1.2)
    return waited + _SURVEY_EVERY * dice.uniform(0.3, 1.7)


def jittered(pause: float, dice: random.Random) -> float:
    """Return a pause with jitter: ± 20 %."""
    return pause * dice.uniform(0.8, 1.2)


def polls(
    timeout: float = math.inf,
    *,
    stopped: threading.Event | None = None,
    longest_pause: float = _LONGEST,
    dice: random.Random | None = None,
) -> Iterator[float]:
    """Yield the seconds since the start: at once, then after pauses, until `timeout` is over or `stopped` is set."""
    pause_ends = threading.Event() if stopped is None else stopped
    dice = dice or random.Random()
    start, pause = real_time.monotonic(), 0.0
    while True:
        yield (elapsed := real_time.monotonic() - start)
        left = start + timeout - real_time.monotonic()
        pause = min(next_pause(elapsed, pause), longest_pause)
        if left <= 0 or pause_ends.wait(min(left, jittered(pause, dice))):
            return

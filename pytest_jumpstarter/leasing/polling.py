"""
How often a run that queues asks: at first at once, later the less often the longer it has waited.

The lease is asked for after 10 ms, then after pauses that grow by half each time, in the first second up to 50 ms, in
the first minute up to 2 s; from then on after a thirtieth of what was waited, 2 s at least and 15 s at most. Who else
waits is asked for the line that people see: after 1 s, 30 s, 1, 2 and 5 minutes, then every 5 minutes. Each pause is
drawn anew, ± 20 %, those between the late surveys ± 50 %, so that runs that were started together do not ask together.

What N runs ask, in requests per second, when each has waited `t` seconds::

    N / 2                  in the first minute, after its first seconds
    N * 30 / t             from one minute to seven and a half
    N / 15 + N * S / 300   later, with S requests for each survey

S is 2, one page each of exporters and leases: 200 runs ask 100 after one minute, 20 after five, 15 in the end; 2,000
runs ask 147, also those that were started at the same moment, once they have waited ten minutes.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator

_FIRST, _GROWTH = 0.01, 1.5
_AT_ONCE, _SHORT = 1.0, 0.05
_SOON, _LONG = 60.0, 2.0
_SHARE, _LONGEST = 30.0, 15.0
_SURVEYS = (1.0, 30.0, 60.0, 120.0, 300.0)
_SURVEY_EVERY = 300.0


def next_pause(waited: float, pause: float) -> float:
    """
    Return the seconds until the lease is asked for again, before they are drawn.

    Args:
        waited: Seconds since the wait began.
        pause: What was returned the last time; 0 at first.
    """
    if waited > _SOON:
        return min(max(waited / _SHARE, _LONG), _LONGEST)
    return min(_SHORT if waited <= _AT_ONCE else _LONG, pause * _GROWTH or _FIRST)


def next_survey(waited: float, dice: random.Random) -> float:
    """Return after how many seconds, since the wait began, it is to be asked next who else waits."""
    for moment in _SURVEYS:
        if waited < moment * 0.8:
            return moment * dice.uniform(0.8, 1.2)
    return waited + _SURVEY_EVERY * dice.uniform(0.5, 1.5)


def drawn(pause: float, dice: random.Random) -> float:
    """Return a pause as it is kept: ± 20 %."""
    return pause * dice.uniform(0.8, 1.2)


def polls(
    timeout: float = math.inf, *, stopped: threading.Event | None = None, dice: random.Random | None = None
) -> Iterator[float]:
    """Yield the seconds since the start, at once and then after pauses, until `timeout` is over or `stopped` is set."""
    pause_ends = threading.Event() if stopped is None else stopped
    dice = dice or random.Random()
    start, pause = time.monotonic(), 0.0
    while True:
        yield (elapsed := time.monotonic() - start)
        left = start + timeout - time.monotonic()
        pause = next_pause(elapsed, pause)
        if left <= 0 or pause_ends.wait(min(left, drawn(pause, dice))):
            return

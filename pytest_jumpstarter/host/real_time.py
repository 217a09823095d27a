"""
The functions of `time` that this package uses, as they are before tests run.

Tests may replace those of the module `time`: by freezegun, time-machine, or a mock of `time.sleep`. The clocks of
boards, leases and waits go on.
"""

from __future__ import annotations

import sys
import time as _time
from contextlib import suppress
from typing import Any

MODULE = _time


class _Real:
    """The functions; freezegun replaces those that are attributes of modules."""

    monotonic = staticmethod(_time.monotonic)
    time = staticmethod(_time.time)
    sleep = staticmethod(_time.sleep)
    strftime = staticmethod(_time.strftime)
    localtime = staticmethod(_time.localtime)


def __getattr__(name: str) -> Any:
    """Return what else the module `time` has, for libraries that use this module in its place."""
    return getattr(_time, name)


def monotonic() -> float:
    """Return the seconds of a clock that only goes forward."""
    return _Real.monotonic()


def time() -> float:
    """Return the Unix time; time-machine, which replaces `time.time` wherever it is, offers the real one."""
    machine = getattr(sys.modules.get("time_machine"), "escape_hatch", None)
    if machine is not None:
        with suppress(ValueError):  # it does not travel
            return float(machine.time.time())
    return _Real.time()


def sleep(seconds: float) -> None:
    """Wait."""
    _Real.sleep(seconds)


def localtime(moment: float) -> _time.struct_time:
    """Return a moment in local time."""
    return _Real.localtime(moment)


def clock(moment: float | None = None, form: str = "%H:%M:%S") -> str:
    """Return a moment, or now, as text in local time."""
    return _Real.strftime(form, localtime(time() if moment is None else moment))

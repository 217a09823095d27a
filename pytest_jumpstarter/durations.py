"""Durations such as `1h30m`, converted to and from seconds."""

from __future__ import annotations

import re  # the patterns are compiled when first used: every run imports this module, few read a duration

_UNITS = r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?"
_CLOCK = r"(\d+):([0-5]\d):([0-5]\d)"


def parse_duration(text: str) -> float:
    """
    Return the seconds in `90`, `90s`, `250ms`, `15m`, `1h30m` or `HH:MM:SS`.

    Raises:
        ValueError: `text` has none of these forms; the message lists them.
    """
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return float(stripped)
    if clock := re.fullmatch(_CLOCK, stripped):
        hours, minutes, seconds = map(int, clock.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    if stripped and (units := re.fullmatch(_UNITS, stripped)):
        h, m, s, ms = (float(part or 0) for part in units.groups())
        return h * 3600 + m * 60 + s + ms / 1000
    raise ValueError(f"{text!r} is not a duration; write 90, 90s, 15m, 1h30m or HH:MM:SS")


def format_duration(seconds: float) -> str:
    """Return `seconds` as text: `0.3s`, `45s`, `02:10`, `1:02:10`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"

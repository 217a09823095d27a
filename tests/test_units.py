"""Durations: what people write, and what they read."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("15m", 900.0),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("1h30m5s", 5405.0),
        ("00:02:10", 130.0),
        ("10:00:00", 36000.0),
        (" 5m ", 300.0),
        ("0", 0.0),
    ],
)
def test_parses(text: str, seconds: float) -> None:
    """Each way to write a duration means the seconds it says."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "1x", "-5", "1h-5m", "5m1h", "1:2:3", "00:61:00", "1e3", "nan", "1 h"])
def test_refuses(text: str) -> None:
    """What is no duration is refused, with the value and the ways to write one."""
    with pytest.raises(ValueError, match="is not a duration; write 90, 90s") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.26, "0.3s"), (9.9, "9.9s"), (45.2, "45s"), (130, "02:10"), (3730, "1:02:10"), (60, "01:00")],
)
def test_formats(seconds: float, text: str) -> None:
    """A duration reads as people say it."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [9.96, 59.7, 3599.8])
def test_rounds_into_the_next_form(seconds: float) -> None:
    """A value that rounds up to a limit is written in the next form, never as `60s` or `10.0s`."""
    assert format_duration(seconds) in {"10s", "01:00", "1:00:00"}

"""How often runs that queue ask: the pauses of one, and what many ask together."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest

from pytest_jumpstarter.leasing.polling import jittered, next_pause, next_survey, polls

SURVEY_REQUESTS = 2  # one page of exporters, one of leases


def pauses(until: float) -> list[tuple[float, float]]:
    """Return when a wait without jitter asks, and the pause that follows, for so many seconds."""
    waited, pause, found = 0.0, 0.0, []
    while waited < until:
        pause = next_pause(waited, pause)
        found.append((waited, pause))
        waited += pause
    return found


def asked(starts: Iterable[float], until: float, dice: random.Random) -> tuple[Counter[int], Counter[int]]:
    """Return how many polls, and requests for surveys, come in each minute from waits that began at `starts`."""
    looks: Counter[int] = Counter()
    surveys: Counter[int] = Counter()
    for start in starts:
        waited, pause, due = 0.0, 0.0, next_survey(0.0, dice)
        while start + waited < until:
            looks[int((start + waited) // 60)] += 1
            if waited >= due:
                surveys[int((start + waited) // 60)] += SURVEY_REQUESTS
                due = next_survey(waited, dice)
            pause = next_pause(waited, pause)
            waited += jittered(pause, dice)
    return looks, surveys


def test_first_seconds_are_quick() -> None:
    """A lease that is ready at once is seen within milliseconds: they begin with 10 ms and stay at 25, then 50 ms."""
    first = [pause for waited, pause in pauses(1.0)]
    assert first[:3] == pytest.approx([0.01, 0.015, 0.0225])
    assert max(pause for waited, pause in pauses(0.3)) == 0.025
    assert max(first) == 0.05


def test_first_minute_is_patient() -> None:
    """In the first minute a wait asks every two seconds at least."""
    assert max(pause for waited, pause in pauses(60.0)) == 2.0


@pytest.mark.parametrize(("waited", "pause"), [(60.1, 2.003), (120, 4), (300, 10), (450, 15), (3600, 15), (86400, 15)])
def test_later_a_thirtieth_of_the_wait(waited: float, pause: float) -> None:
    """After a minute the pause is a thirtieth of what was waited, from 2 s to 15 s, whatever the one before was."""
    assert next_pause(waited, 0.05) == next_pause(waited, 2.0) == pytest.approx(pause, abs=0.001)


def test_pauses_never_jump_back() -> None:
    """From poll to poll the pause grows or stays."""
    found = [pause for _, pause in pauses(3600)]
    assert found == sorted(found)


def test_each_pause_is_drawn() -> None:
    """A pause is kept to within a fifth of itself, and no two runs keep the same ones."""
    dice = random.Random(1)
    found = [jittered(10.0, dice) for _ in range(1000)]
    assert 8.0 <= min(found) < 8.5
    assert 11.5 < max(found) <= 12.0


def test_surveys() -> None:
    """The survey is due after 1 s, 30 s, 1, 2 and 5 minutes, ± 20 %, then every 5 minutes, ± 70 %."""
    for seed in range(100):
        dice = random.Random(seed)
        due, found = 0.0, []
        for _ in range(9):
            due = next_survey(due, dice)
            found.append(due)
        assert found[:5] == [pytest.approx(moment, rel=0.2) for moment in (1, 30, 60, 120, 300)]
        assert all(90 <= after - before <= 510 for before, after in pairwise(found[4:]))


@pytest.mark.parametrize("spread", [0.0, 1800.0], ids=["started together", "started over half an hour"])
def test_two_thousand_waiters(spread: float) -> None:
    """Two thousand runs in a queue ask at most 150 requests per second, polls and surveys together."""
    for seed in range(3):
        dice = random.Random(seed)
        looks, surveys = asked((dice.uniform(0, spread) for _ in range(2000)), spread + 2400, dice)
        settled = range(int(spread / 60) + 10, int(spread / 60) + 40)
        per_second = [(looks[minute] + surveys[minute]) / 60 for minute in settled]
        assert 140 < sum(per_second) / len(per_second) < 150
        assert max(per_second) <= 150


def test_two_hundred_waiters() -> None:
    """Two hundred runs that start together ask 70 polls per second in their second minute, 18 in the sixth, then 13."""
    looks, surveys = asked([0.0] * 200, 1800, random.Random(1))
    assert looks[0] / 60 == pytest.approx(197, rel=0.1)  # as quick as it ever was
    assert looks[1] / 60 == pytest.approx(200 * 30 / 87, rel=0.1)  # the mean of N * 30 / t over that minute
    assert looks[5] / 60 == pytest.approx(200 * 30 / 330, rel=0.1)
    assert looks[20] / 60 == pytest.approx(200 / 15, rel=0.1)
    assert max(surveys.values()) / 60 < 20


def test_polls_end_by_themselves() -> None:
    """A wait asks at once, and a last time when its time is over."""
    times = list(polls(0.2, dice=random.Random(1)))
    assert times[0] < 0.1
    assert times[-1] >= 0.2
    assert times == sorted(times)


def test_polls_end_when_told() -> None:
    """Nobody waits for the end of a pause once the wait is called off."""
    stopped = threading.Event()
    times = polls(stopped=stopped)
    next(times)
    stopped.set()
    assert list(times) == []

"""What a new exporter is told first: its first lease does not wait for it to be ready for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pytest_jumpstarter.lab.model import LeaseView, StatusFeed

IDLE, LEASED = LeaseView(is_leased=False), LeaseView(is_leased=True, lease="a", client="default")


async def words(views: Sequence[LeaseView]) -> list[LeaseView]:
    """Return what a stream says, if it is opened and the exporter then changes at once."""
    feed = StatusFeed()
    for view in views:
        feed.put(view)
    said = [await feed.first(0.1)]
    while True:
        try:
            async with asyncio.timeout(0.05):
                said.append(await feed.get())
        except TimeoutError:
            return said


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([IDLE], [IDLE]),
        ([IDLE, LEASED], [LEASED]),
        ([IDLE, LEASED, IDLE], [LEASED, IDLE]),
        ([LEASED, IDLE], [LEASED, IDLE]),
    ],
    ids=["not leased", "leased", "leased and free", "leased before"],
)
def test_first_word(views: Sequence[LeaseView], expected: Sequence[LeaseView]) -> None:
    """A new exporter that is leased soon is told only that; no later word is left out, whatever it is."""
    assert asyncio.run(words(views)) == expected

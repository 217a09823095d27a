"""What is sent of a file: several blocks at once, and all that there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from anyio import EndOfStream
from anyio.abc import ObjectStream

from pytest_jumpstarter.device import transfers
from pytest_jumpstarter.device.transfers import Transfers

BLOCK = b"x" * 65536


class Source(ObjectStream[bytes]):
    """A stream of blocks, each after a number of seconds, and errors; nobody may read on after its end."""

    def __init__(self, blocks: Sequence[bytes | Exception], seconds: float = 0.0) -> None:
        self._blocks = list(blocks)
        self._seconds = seconds
        self._is_at_end = False

    async def receive(self) -> bytes:  # noqa: D102 - as in anyio
        assert not self._is_at_end
        await asyncio.sleep(self._seconds)
        block = self._blocks.pop(0) if self._blocks else EndOfStream()
        if isinstance(block, Exception):
            self._is_at_end = True
            raise block
        return block

    async def send(self, item: bytes) -> None:  # noqa: D102
        raise NotImplementedError

    async def send_eof(self) -> None:  # noqa: D102
        raise NotImplementedError

    async def aclose(self) -> None:  # noqa: D102
        pass


async def sent(source: Source, seconds: float = 0.0) -> tuple[list[int], int]:
    """Return the sizes of what a driver client sends of a source, `seconds` for each, and how much was counted."""
    begun: list[Any] = []
    sizes: list[int] = []
    with Transfers(begun.append)._counting("storage", source) as counted:
        while True:
            try:
                sizes.append(len(await counted.receive()))
            except EndOfStream:
                break
            await asyncio.sleep(seconds)
        with pytest.raises(EndOfStream):
            await counted.receive()
    return sizes, begun[0].count


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        ([], []),
        ([b"a"], [1]),
        ([BLOCK], [65536]),
        ([BLOCK] * 24, [65536, 65536, 131072, 262144, 524288, 524288]),
        ([*[BLOCK] * 10, b"end"], [65536, 65536, 131072, 262144, 131075]),
        ([BLOCK, BLOCK, b"little", BLOCK, b"", BLOCK[1:], b"by little"], [65536, 65536, 6, 65536, 65535, 9]),
        ([bytes(10), bytes(1 << 20), bytes(10)], [10, 1 << 20, 10]),
    ],
    ids=["nothing", "a byte", "a block", "messages", "a file", "pieces", "blocks of another size"],
)
def test_blocks_become_messages(monkeypatch: pytest.MonkeyPatch, blocks: Sequence[bytes], sizes: list[int]) -> None:
    """Full blocks are sent together, twice as many each time; whatever is no full block ends a message."""
    monkeypatch.setattr(transfers, "_SOON", 60.0)  # this machine may stand still for a moment
    assert asyncio.run(sent(Source(blocks))) == (sizes, sum(map(len, blocks)))


@pytest.mark.parametrize("is_source", [True, False], ids=["source", "board"])
def test_a_slow_side(is_source: bool) -> None:
    """Where one side is slow, each block is sent when it is there: what is counted is what people see."""
    blocks = [BLOCK] * 4
    sizes = asyncio.run(sent(Source(blocks, 0.06)) if is_source else sent(Source(blocks), 0.06))
    assert sizes == ([65536] * 4, 4 * 65536)


def test_an_error_within_a_message() -> None:
    """The error of a block is raised, and not the end of the stream."""
    source = Source([BLOCK, OSError("the disk is gone")])
    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(sent(source))

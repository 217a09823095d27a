"""A board that talks all the time: numbered lines at a steady rate, and a pause where it reboots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio import EndOfStream
from anyio.abc import ObjectStream
from jumpstarter.driver import Driver, exportstream

LINE_BYTES = 64
_TICK = 0.02


def numbered(first: int, count: int) -> bytes:
    """Return so many lines, of which each tells its number."""
    return b"".join(b"%011d %051d\n" % (number, number) for number in range(first, first + count))


@dataclass(kw_only=True)
class Talker(Driver):
    """
    The serial port of that board, which begins to talk when told how long and ends the stream after it.

    Args:
        rate: Bytes a second.
    """

    rate: int

    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[_Talk, None]:
        """Open the port."""
        yield _Talk(self.rate)


class _Talk(ObjectStream[bytes]):
    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._told = asyncio.Event()
        self._lines = self._said = self._rebooted = 0
        self._start = 0.0

    async def receive(self) -> bytes:
        await self._told.wait()
        if self._said >= self._lines:
            raise EndOfStream
        while True:
            due = min(self._lines, int((time.monotonic() - self._start) * self._rate / LINE_BYTES))
            if self._said < due:
                first, self._said = self._said, min(due, self._said + 1024)
                return numbered(first, self._said - first)
            await asyncio.sleep(_TICK)

    async def send(self, item: bytes) -> None:
        """Hear how many lines to say, or a `reboot`, which takes half a second."""
        if item == b"reboot":
            self._start += 0.5
            return
        self._lines = int(item)
        self._start = time.monotonic()
        self._told.set()

    async def send_eof(self) -> None:
        """Do nothing: a serial port cannot be closed in one direction."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to free."""

"""Drivers that go wrong: calls that can be counted and take long, consoles that do not open or never stop."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio import create_memory_object_stream, create_task_group, sleep, sleep_forever
from anyio.abc import ObjectStream
from anyio.streams.stapled import StapledObjectStream
from jumpstarter.driver import Driver, export, exportstream
from jumpstarter_driver_power.driver import MockPower


@dataclass(kw_only=True)
class Counting(MockPower):
    """Power whose calls leave a line each in `file` when they begin."""

    file: str

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def count(self, name: str, duration: float) -> str:
        """Note `name`, take `duration` seconds, and return it."""
        with Path(self.file).open("a") as lines:
            lines.write(f"{name}\n")
        time.sleep(duration)
        return name

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def fail(self, size: float) -> None:
        """Raise an error of `size` characters, and then its reason."""
        raise RuntimeError("e" * int(size) + " THE REASON")

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def read_slowly(self, duration: float) -> AsyncGenerator[str, None]:
        """Yield a word, and another one `duration` seconds later."""
        yield "first"
        await sleep(duration)
        yield "second"


class _Port(Driver):
    @classmethod
    def client(cls) -> str:
        """Return the client class of Jumpstarter's own serial driver."""
        return "jumpstarter_driver_pyserial.client.PySerialClient"


@dataclass(kw_only=True)
class Stuck(_Port):
    """A serial port that is never opened."""

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[None, None]:
        """Wait for ever."""
        await sleep_forever()
        yield


@dataclass(kw_only=True)
class Flooding(_Port):
    """A serial port with a board that never stops printing."""

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ObjectStream[bytes], None]:
        """Open the port."""
        said, heard = create_memory_object_stream[bytes](1)
        typed, read = create_memory_object_stream[bytes](1 << 10)

        async def print_on() -> None:
            while True:
                await said.send(b"another line of the board\r\n" * 1000)

        with said, heard, typed, read:
            async with create_task_group() as group:
                group.start_soon(print_on)
                yield StapledObjectStream(typed, heard)
                group.cancel_scope.cancel()


@dataclass(kw_only=True)
class Hesitant(_Port):
    """A serial port that is not opened as long as `file` exists, and then says one line."""

    file: str

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[ObjectStream[bytes], None]:
        """Open the port."""
        while Path(self.file).exists():
            await sleep(0.1)
        typed, read = create_memory_object_stream[bytes](1)
        said, heard = create_memory_object_stream[bytes](1)
        said.send_nowait(b"at last\r\n")
        with typed, read, said, heard:
            yield StapledObjectStream(typed, heard)


class Saying(MockPower):
    """Power that repeats what it is told, in its log and in its errors."""

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def log(self, text: str) -> None:
        """Log a text."""
        self.logger.warning("%s", text)

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def fail(self, text: str) -> None:
        """Raise a text."""
        raise RuntimeError(text)

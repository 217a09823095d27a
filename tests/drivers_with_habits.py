"""Drivers whose clients do what those of private driver packages do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import click
import sniffio
from anyio.abc import ObjectStream
from anyio.streams.stapled import StapledObjectStream
from jumpstarter.client import DriverClient
from jumpstarter.client.decorators import driver_click_group
from jumpstarter.driver import Driver, export, exportstream
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_power.client import PowerClient


class LoopClient(DriverClient):
    """A client that notes, when it is made, in which loop and library that is."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        self.loop = asyncio.get_running_loop()
        self.event_loop = asyncio.get_event_loop()  # deprecated, but works where a loop runs
        self.event = anyio.Event()
        self.library = sniffio.current_async_library()
        self.semaphore = anyio.Semaphore(1)

    def is_in_loop_of_portal(self) -> bool:
        """Return whether that is the loop in which its calls run."""

        async def loop() -> object:
            return asyncio.get_running_loop()

        return self.loop is self.event_loop is self.portal.call(loop)


class Wrapper:
    """A child that is no driver client."""

    def __init__(self, power: Any) -> None:
        self.power = power


class RackClient(DriverClient):
    """A client that adds to its children."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        self.children["outlet"] = Wrapper(self.children["power"])  # type: ignore[assignment]

    def second_power(self) -> PowerClient:
        """Return another client of its power driver, made from the parts of this one."""
        power = self.children["power"]
        parts = {
            "stub": self.stub,
            "portal": self.portal,
            "stack": self.stack,
            "children": self.children["box"].children,
        }
        return PowerClient(uuid=power.uuid, labels=power.labels, **parts)


def driver_of(client: type[DriverClient]) -> Any:
    """Return a driver class with children, whose clients have this class."""
    path = f"{client.__module__}.{client.__qualname__}"
    return type("Driver", (Composite,), {"client": classmethod(lambda _: path)})


Loop, Rack = driver_of(LoopClient), driver_of(RackClient)


ERRORS: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (
        ValueError, TimeoutError, NotImplementedError, RuntimeError, KeyError, OSError, ConnectionError,
        PermissionError, EOFError, AssertionError, anyio.ClosedResourceError,
    )
}  # fmt: skip


class Parrot(Driver):
    """A driver that says again what it is told: at once, bit by bit, or into a stream."""

    @classmethod
    def client(cls) -> str:
        """Return the class of its clients."""
        return f"{__name__}.ParrotClient"

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def echo(self, *args: Any) -> Any:
        """Return the argument, or the list of them."""
        return list(args) if len(args) != 1 else args[0]

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def late(self, value: Any, seconds: float) -> Any:
        """Return the value, some time later."""
        await asyncio.sleep(seconds)
        return value

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def count(self, end: float) -> AsyncGenerator[int, None]:
        """Yield numbers."""
        for number in range(int(end)):
            yield number

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def fail(self, kind: str) -> None:
        """Raise an error."""
        raise ERRORS[kind](f"the parrot: {kind}")

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def fail_late(self, kind: str) -> None:
        """Raise an error in a coroutine."""
        await asyncio.sleep(0.01)
        raise ERRORS[kind](f"the parrot: {kind}")

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def count_and_fail(self, kind: str) -> AsyncGenerator[int, None]:
        """Yield numbers, then raise an error."""
        for number in range(3):
            yield number
        raise ERRORS[kind](f"the parrot: {kind}")

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    async def length(self, handle: Any) -> int:
        """Return how much a resource has."""
        async with self.resource(handle) as stream:
            return sum([len(chunk) async for chunk in stream])

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any, None]:
        """Open a stream that says again what it is told."""
        send, receive = anyio.create_memory_object_stream[bytes](32)
        async with StapledObjectStream(send, receive) as stream:
            yield stream

    @exportstream  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    @asynccontextmanager
    async def greet(self) -> AsyncGenerator[Any, None]:
        """Open a stream that speaks first."""
        async with Parrot.connect(self) as stream:
            await stream.send(b"hello")
            yield stream


@dataclass(kw_only=True)
class ParrotClient(DriverClient):
    """A client that has all of it: fields and locks of its own, coroutines in the portal, and overridden methods."""

    lock: Any = field(init=False, default_factory=threading.Lock)
    seen: list[str] = field(init=False, default_factory=list)

    def call(self, method: str, *args: Any) -> Any:
        """Note the call."""
        self.seen.append(f"call {method}")
        return super().call(method, *args)  # type: ignore[no-untyped-call]  # as above

    async def call_async(self, method: str, *args: Any) -> Any:
        """Note the call."""
        self.seen.append(f"call_async {method}")
        return await super().call_async(method, *args)  # type: ignore[no-untyped-call]  # as above

    @asynccontextmanager
    async def stream_async(self, method: str = "connect") -> AsyncGenerator[Any, None]:
        """Note the stream."""
        self.seen.append(f"stream_async {method}")
        async with super().stream_async(method) as stream:
            yield stream

    def __enter__(self) -> Any:
        self._stream: Any = self.stream()
        return self._stream.__enter__()

    def __exit__(self, *details: object) -> Any:
        return self._stream.__exit__(*details)

    def many(self, number: int) -> list[int]:
        """Call many times at once, by a task group in the portal."""
        found = []

        async def one(value: int) -> None:
            found.append(await self.call_async("late", value, 0.01))

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for value in range(number):
                    group.start_soon(one, value)

        self.portal.call(main)
        return sorted(found)

    def soon(self, value: Any) -> Any:
        """Call in a task of the portal."""
        return self.portal.start_task_soon(self.call_async, "echo", value).result(30)

    def warn(self) -> None:
        """Log a warning."""
        self.logger.warning("the parrot is tired")

    def send_all(self, chunks: Iterable[bytes]) -> Any:
        """Offer chunks as a resource, and return what the driver makes of it."""
        return self.portal.call(self._send_all, Chunks(chunks))

    async def _send_all(self, stream: Any) -> Any:
        async with self.resource_async(stream) as handle:
            return await self.call_async("length", handle)

    def cli(self) -> Any:
        """Return commands for `j`."""

        @driver_click_group(self)
        def base() -> None:
            """Say something."""

        @base.command()  # type: ignore[untyped-decorator]  # Jumpstarter's classes carry no types
        @click.argument("word")
        def say(word: str) -> None:
            click.echo(f"parrot: {self.call('echo', word)}")

        return base


class Chunks(ObjectStream[bytes]):
    """A stream of chunks that are made when they are needed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)

    async def receive(self) -> bytes:
        """Return the next one."""
        try:
            return next(self._chunks)
        except StopIteration:
            raise anyio.EndOfStream from None

    async def send(self, item: bytes) -> None:
        """Take nothing."""
        raise NotImplementedError(item)

    async def send_eof(self) -> None:
        """End nothing."""

    async def aclose(self) -> None:
        """Close nothing."""


class Namesake(Parrot):
    """A driver whose client has the names of a device."""

    @classmethod
    def client(cls) -> str:
        """Return the class of its clients."""
        return f"{__name__}.NamesakeClient"


@dataclass(kw_only=True)
class NamesakeClient(ParrotClient):
    """A client that has, beside all that, the names of a device's own members."""

    role: str = "a role of its own"
    exporter: str = "an exporter of its own"
    lease: str = "a lease of its own"

    def console(self) -> str:
        """Return words."""
        return "a console of its own"

    def env(self) -> str:
        """Return words."""
        return "an environment of its own"

    def flash(self) -> str:
        """Return words."""
        return "a flash of its own"

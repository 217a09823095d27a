"""
Transfers: what driver clients send to the exporter and get from it, counted byte for byte.

All uploads and downloads of Jumpstarter's driver packages go through `resource_async` of a driver client. It is wrapped
on each client when that is built, so this knows none of the packages. Jumpstarter's own progress bar stays off.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from anyio import EndOfStream, TypedAttributeLookupError
from anyio.abc import ObjectStream

from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.jumpstarter_private import bar_off

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

_BLOCK = 1 << 16
"""What drivers read of a file at once. Source: `AsyncFileStream` of jumpstarter-driver-opendal."""

_MESSAGE = 1 << 19
"""What is sent at once at most: gRPC takes 4 MiB, and each message costs every process on its way."""

_SOON = 0.05
"""Seconds within which a message is read, and sent; what is slower goes block by block, so that people see it go on."""

Outcome: TypeAlias = Literal["", "done", "failed", "skipped"]


def _nothing() -> None:
    """Do nothing."""


class Transfer:
    """
    One upload or download, or one flash with all its uploads.

    Args:
        driver: The dotted path of the driver.
        what: `flash` or `transfer`.
        image: The name of what is flashed; empty if that is not known.

    Attributes:
        driver, what, image: As given.
        count: The bytes so far.
        total: The bytes there will be; 0 if that is not known.
        moment: When it began, in Unix time.
        outcome: How it ended; empty before. `skipped`: a flash of what was there already.
        over: Is set when it ended.
        wait_told: Waits a moment until its end is shown.
    """

    def __init__(self, driver: str, what: Literal["flash", "transfer"], image: str = "") -> None:
        self.driver = driver
        self.what = what
        self.image = image
        self.count = 0
        self.total = 0
        self.moment = real_time.time()
        self.outcome: Outcome = ""
        self.over = threading.Event()
        self.wait_told: Callable[[], None] = _nothing
        self._began = real_time.monotonic()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return self._seconds if self.over.is_set() else real_time.monotonic() - self._began

    def end(self, outcome: Outcome) -> None:
        """Note the end."""
        self._seconds = real_time.monotonic() - self._began
        self.outcome = outcome
        self.over.set()


def _ignore(transfer: Transfer) -> None:
    """Show nothing."""


class Transfers:
    """
    The transfers of one device.

    Args:
        on_begin: Called with each transfer when it begins, from the thread or loop that begins it.
    """

    def __init__(self, on_begin: Callable[[Transfer], None] = _ignore) -> None:
        self._on_begin = on_begin
        self._flash: Transfer | None = None

    def watch(self, path: str, client: DriverClient) -> None:
        """Count what a driver client sends and receives."""
        open_resource = getattr(client, "resource_async", None)
        if open_resource is None:
            return

        @asynccontextmanager
        async def resource_async(stream: ObjectStream[bytes], *args: object, **kwargs: object) -> AsyncIterator[object]:
            with self._counting(path, stream) as counted:
                resource: AbstractAsyncContextManager[object] = open_resource(counted, *args, **kwargs)
                async with AsyncExitStack() as stack:
                    with bar_off():
                        handle = await stack.enter_async_context(resource)
                    yield handle

        client.resource_async = resource_async  # type: ignore[method-assign, unused-ignore]

    @contextmanager
    def flash(self, path: str, image: str) -> Iterator[None]:
        """Count all transfers of this device meanwhile as parts of one flash."""
        self._flash = flash = Transfer(path, "flash", image)
        try:
            with self._ended(flash):
                yield
        finally:
            self._flash = None
            flash.wait_told()  # so that what the test prints next is not in the same line

    def skip(self, path: str, image: str) -> None:
        """Note a flash of what is there already."""
        skipped = Transfer(path, "flash", image)
        skipped.end("skipped")
        self._on_begin(skipped)

    @contextmanager
    def _counting(self, path: str, stream: ObjectStream[bytes]) -> Iterator[_CountedStream]:
        """Count as part of the flash that is running; else as a transfer of its own."""
        if self._flash is not None:
            self._flash.total += _total(stream)
            yield _CountedStream(stream, self._flash)
        else:
            transfer = Transfer(path, "transfer")
            transfer.total = _total(stream)
            with self._ended(transfer):
                yield _CountedStream(stream, transfer)

    @contextmanager
    def _ended(self, transfer: Transfer) -> Iterator[None]:
        self._on_begin(transfer)
        try:
            yield
        except BaseException:
            transfer.end("failed")
            raise
        transfer.end("done")


class _CountedStream(ObjectStream[bytes]):
    """
    A stream whose bytes are counted: those that a driver client reads to send them, and those that it stores.

    Full blocks of a file are sent several at once, twice as many each time, as long as both sides are fast.

    Args:
        stream: The stream of the driver client; `transfer` gets the count.
    """

    def __init__(self, stream: ObjectStream[bytes], transfer: Transfer) -> None:
        self._stream = stream
        self._transfer = transfer
        self._is_at_end = False
        self._most = 0
        self._handed = 0.0

    @property
    def extra_attributes(self) -> Any:
        return self._stream.extra_attributes

    async def receive(self) -> bytes:
        asked = real_time.monotonic()
        self._most = min(max(_BLOCK, 2 * self._most), _MESSAGE) if asked < self._handed + _SOON else 0
        blocks: list[bytes] = []
        while not (self._is_at_end or (blocks and self._is_message(blocks, asked))):
            try:
                blocks.append(await self._stream.receive())
            except EndOfStream:
                self._is_at_end = True
        if not blocks:
            raise EndOfStream
        message = b"".join(blocks)
        self._transfer.count += len(message)
        self._handed = real_time.monotonic()
        return message

    def _is_message(self, blocks: list[bytes], asked: float) -> bool:
        """Return whether these blocks are sent as they are: no more are at hand, or they are enough."""
        is_enough = len(blocks) * _BLOCK >= self._most
        return is_enough or len(blocks[-1]) != _BLOCK or real_time.monotonic() > asked + _SOON

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)
        self._transfer.count += len(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _total(stream: ObjectStream[bytes]) -> int:
    """Return how many bytes a stream will send; 0 if it does not say so."""
    from pytest_jumpstarter.jumpstarter_private import ProgressAttribute

    try:
        return int(stream.extra(ProgressAttribute.total, 0))
    except (AttributeError, TypedAttributeLookupError, TypeError, ValueError):
        return 0

"""`Loopback`: a driver client of a console without an exporter, for what is measured in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import create_memory_object_stream
from anyio.streams.stapled import StapledObjectStream


class Loopback:
    """A console whose board says what is sent to it."""

    @asynccontextmanager
    async def stream_async(self, method: str) -> AsyncIterator[Any]:  # noqa: ARG002 - as driver clients have it
        """Open the console, as a driver client does."""
        sender, receiver = create_memory_object_stream[bytes](1000)
        async with StapledObjectStream(sender, receiver) as stream:
            yield stream

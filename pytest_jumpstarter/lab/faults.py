"""
A lab that can be harmed, for tests of what goes wrong: `python -m pytest_jumpstarter.lab --faults FOLDER …`.

Two ways to harm it. Kill it: with `--snapshot MODULE`, what it knows is written to `FOLDER/snapshot` before any answer
leaves, and a lab that is started with the same folder goes on where that one ended, on the same port. Its own exporters
end with it, so those that shall live on are external ones. And order it, through the socket `FOLDER/control`, a line
each way:

- `cut`: break every stream through the router; answers how many there were.
- `expire`: from now on call all tokens that clients have expired.
- `token CLIENT`: answers a new token.
- `clock SECONDS`: from now on be so far ahead of everybody else's clock, or behind.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from pytest_jumpstarter.lab.authority import Authority, TokenRejected
from pytest_jumpstarter.lab.model import Model
from pytest_jumpstarter.lab.server import Server

_ORDER_TIMEOUT = 10.0
_honest_time = time.time


def order(folder: Path, command: str) -> str:
    """Send one order to the lab of `folder`, and return its answer once it is carried out."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(_ORDER_TIMEOUT)
        control.connect(str(folder / "control"))
        control.sendall(command.encode() + b"\n")
        with control.makefile(encoding="utf-8") as answer:
            return answer.readline().rstrip("\n")


class FaultyServer(Server):
    """
    A server that remembers in `folder`, and takes orders there.

    Args:
        folder: Exists; its path is short enough for a socket's.
        snapshot: The module whose `Snapshot` saves and restores what it knows; None: it remembers nothing.
    """

    def __init__(self, model: Model, folder: Path, *, offline_after: float, snapshot: ModuleType | None = None) -> None:
        self._folder = folder
        self._snapshot = snapshot
        self._past = snapshot.Snapshot.load(folder / "snapshot") if snapshot is not None else None
        self._expiring = _ExpiringAuthority(keys=self._past and self._past.keys)
        self._streams = _Streams()
        self.interceptors = (self._streams, _BeforeAnswers(self._save))
        super().__init__(model, self._expiring, offline_after=offline_after)

    async def start(self, *, port: int = 0) -> None:
        """Go on where the lab of this folder ended, if there was one; then listen to orders."""
        if self._past is not None:
            for exporter in self._past.restore(self.model):
                self._scheduler.see(exporter)
            self._scheduler.wake()
        await super().start(port=self._past.port if self._past else port)
        (self._folder / "control").unlink(missing_ok=True)
        self._control = await asyncio.start_unix_server(self._listen, self._folder / "control")

    async def stop(self) -> None:
        """End all calls, and take no more orders."""
        self._control.close()
        await super().stop()

    def _save(self) -> None:
        if self._snapshot is not None:
            port = int(self.endpoint.rpartition(":")[2])
            self._snapshot.Snapshot.take(self.model, self.authority.keys, port).save(self._folder / "snapshot")

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, _, argument = (await reader.readline()).decode().strip().partition(" ")
        writer.write(f"{self._obey(word, argument)}\n".encode())
        await writer.drain()
        writer.close()

    def _obey(self, word: str, argument: str) -> object:
        match word:
            case "cut":
                return self._streams.cut()
            case "expire":
                return self._expiring.expire()
            case "token":
                return self.authority.issue(self.model.clients[argument].subject)[0]
            case "clock":
                return _shift_clock(float(argument))
        return f"there is no order {word!r}"


class _ExpiringAuthority(Authority):
    """Vouches for tokens until it is told that those of clients have run out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._good: set[str] = set()
        self._has_expired = False

    def issue(self, subject: str) -> tuple[str, float]:
        token, expiry = super().issue(subject)
        if subject.startswith("client:"):
            self._good.add(token)
        return token, expiry

    def verify(self, token: str) -> str:
        subject = super().verify(token)
        if self._has_expired and subject.startswith("client:") and token not in self._good:
            raise TokenRejected("oidc: verify token: oidc: token is expired (Token Expiry: a moment ago)")
        return subject

    def expire(self) -> str:
        """Let all tokens of clients run out that were issued by now."""
        self._good.clear()
        self._has_expired = True
        return "expired"


class _Streams(grpc.aio.ServerInterceptor):
    """Knows every stream through the router, and can break them all at once."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def cut(self) -> int:
        """Return how many there were; a pair are two."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Run the router's streams in tasks of their own."""
        handler = await continuation(details)
        if not details.method.startswith("/jumpstarter.v1.RouterService/"):
            return handler

        async def stream(frames: object, context: Any) -> None:
            task = asyncio.ensure_future(handler.stream_stream(frames, context))
            self._tasks.add(task)
            try:
                await asyncio.wait([task])
            finally:
                self._tasks.discard(task)
                is_cut = not task.cancel() and task.cancelled()
            if is_cut:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the router connection was cut")
            await task

        return grpc.stream_stream_rpc_method_handler(stream)


class _BeforeAnswers(grpc.aio.ServerInterceptor):
    """Calls `save` before the answer to anything but a read leaves."""

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        method = details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or method.startswith(("Get", "List")):
            return handler

        async def answer(request: Any, context: Any) -> Any:
            response = await handler.unary_unary(request, context)
            self._save()
            return response

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _shift_clock(seconds: float) -> float:
    """Let all of this process see another time; what measures durations is monotonic and stays right."""
    setattr(time, "time", lambda: _honest_time() + seconds)  # noqa: B010 - the type says that it cannot be assigned
    return seconds

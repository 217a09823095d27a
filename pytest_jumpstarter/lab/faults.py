"""
A lab that fails on demand, for tests of what goes wrong: `python -m pytest_jumpstarter.lab --faults FOLDER …`.

There are two ways to make it fail. Kill it: with `--snapshot MODULE`, what it knows is written to `FOLDER/snapshot`
before any answer leaves, and a lab that is started with the same folder continues there, on the same port. Its own
exporters end with it; use external ones where they must not. Or give it orders, through the socket `FOLDER/control`, a
line each way; words are separated and quoted as in a shell:

===============================  =====================================================================================
order                            what it does
===============================  =====================================================================================
`fail METHODS CODE TEXT EXTENT`  answer with a status, such as `UNKNOWN "etcdserver: leader changed"`
`silence METHODS EXTENT`         take the call and never answer it
`slow METHODS DURATION EXTENT`   answer so much later
`lose METHODS EXTENT`            carry the call out, and answer as if the connection had broken before the answer came
`rename EXTENT`                  name leases itself, whatever `lease_id` a CreateLease has
`start EXTENT`                   be a lab controller that has just started: answer all with `UNKNOWN oidc:
                                 authenticator not initialized`; exporters that suffer lose their streams first
`database EXTENT`                be a lab controller whose Kubernetes API is away: answer all with `UNKNOWN … Get
                                 "https://…": dial tcp …: connect: connection refused`
`router EXTENT`                  break every stream through the router, and refuse others with UNAVAILABLE
`calm`                           end all of the above; `calm to WHOM`: what was ordered for exactly those
`cut`                            break every stream through the router; answers how many there were
`router-endpoint HOST:PORT`      from now on tell whoever dials that the router is there
`calls`                          answer how many calls came so far, as JSON: `{"Client": {"GetLease": 3}, …}`;
                                 `calls to WHOM`: only those of some
`expire`                         from now on call all tokens that clients have expired, the watcher's excepted
`token CLIENT`                   answer a new token
`trust CLIENT ISSUER KEYS CA`    accept for a client the tokens of an identity provider: its keys (JWKS) are at this URL
`remove EXPORTER`                take an exporter out of the lab, as if somebody had deleted it; it must not be leased
`restore EXPORTER`               put it back
`clock SECONDS`                  from now on be so far ahead of everybody else's clock, or behind
===============================  =====================================================================================

METHODS is `GetLease`, or `GetLease,Dial`, or `all` of the lab controller; `Stream` is the router's one. EXTENT is any
of `for DURATION` or `times N` (calls; both: whatever ends first; neither: until `calm`), and `to WHOM`: `clients`
(unless told otherwise: only their way to the lab controller suffers), `exporters`, `everyone`, or names of clients and
exporters, such as `default,board-1`; a client with the name `watcher` never suffers. Several troubles add up; the first
that answers counts. A call under way is left alone, and one that was met by silence stays without an answer.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from pytest_jumpstarter.lab.breakable import BreakableStreams
from pytest_jumpstarter.lab.expiring import ExpiringAuthority
from pytest_jumpstarter.lab.model import Exporter, Model
from pytest_jumpstarter.lab.server import Server
from pytest_jumpstarter.lab.weather import Weather

_ORDER_TIMEOUT = 10.0
_REFUSED = "refused: "
_honest_time = time.time


def order(folder: Path, command: str) -> str:
    """
    Send one order to the lab of `folder`, and return its answer once it is carried out.

    Raises:
        ValueError: The lab does not understand it.
    """
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(_ORDER_TIMEOUT)
        control.connect(str(folder / "control"))
        control.sendall(command.encode() + b"\n")
        with control.makefile(encoding="utf-8") as answer:
            said = answer.readline().rstrip("\n")
    if said.startswith(_REFUSED):
        raise ValueError(said.removeprefix(_REFUSED))
    return said


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
        self._expiring = ExpiringAuthority(keys=self._past and self._past.keys)
        self._streams = BreakableStreams()
        self._removed: dict[str, Exporter] = {}
        names = (*model.clients, *model.exporters)
        self._weather = Weather(names, on_restart=self._streams.hang_up, on_router=self._streams.cut)
        self.interceptors = (self._weather, self._streams, _BeforeAnswers(self._save))
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
        try:
            answer = self._obey(shlex.split((await reader.readline()).decode()))
        except ValueError as error:
            answer = f"{_REFUSED}{error}"
        writer.write(f"{answer}\n".encode())
        await writer.drain()
        writer.close()

    def _obey(self, words: list[str]) -> object:
        match words:
            case [word, *_] if word in Weather.ORDERS:
                return self._weather.obey(words)
            case ["cut"]:
                return self._streams.cut()
            case ["router-endpoint", endpoint]:
                self._router.endpoint = endpoint
            case ["expire"]:
                return self._expiring.expire()
            case [("token" | "trust") as word, name, *more] if name in self.model.clients:
                return self._expiring.obey(word, self.model.clients[name].subject, *more)
            case [("remove" | "restore") as word, name]:
                self._move(name, is_removed=word == "remove")
            case ["clock", seconds]:
                return _shift_clock(float(seconds))
            case _:
                raise ValueError(f"there is no such order: {shlex.join(words)}")
        return "done"

    def _move(self, name: str, *, is_removed: bool) -> None:
        exporters = self.model.exporters
        source, target = (exporters, self._removed) if is_removed else (self._removed, exporters)
        if name not in source:
            raise ValueError(f"there is no exporter {name} to move")
        target[name] = source.pop(name)
        for each in sorted(exporters):  # the order of listings
            exporters[each] = exporters.pop(each)


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
    """Change the clock of this process; the monotonic clock, which measures durations, stays right."""
    setattr(time, "time", lambda: _honest_time() + seconds)  # noqa: B010 - the type says that it cannot be assigned
    return seconds

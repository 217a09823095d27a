"""
Trouble that lasts: calls that a lab refuses, delays or never answers, for some time or for some number of calls.

`faults` has the table of the orders. Whoever calls is told apart by the metadata that every client and exporter sends;
to the router all are alike.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.lab.refusal import Refusal, abort

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.refusal import Context

_SERVICES = (
    client_pb2.DESCRIPTOR.services_by_name["ClientService"],
    jumpstarter_pb2.DESCRIPTOR.services_by_name["ControllerService"],
)
_ALL = frozenset(name for service in _SERVICES for name in service.methods_by_name)
_ROUTER = "Stream"
_WHOM = {
    "clients": frozenset({"Client"}),
    "exporters": frozenset({"Exporter"}),
    "everyone": frozenset({"Client", "Exporter"}),
}
_CLIENTS = "clients"
WATCHER = "watcher"
"""The client that never suffers, if the lab has it: by its eyes a test looks at what goes on."""

_STARTING = "oidc: authenticator not initialized"
_NO_ROUTER = "the router is away"
_LOST = "Socket closed"


@dataclass(frozen=True, slots=True)
class _Call:
    """Who calls what."""

    method: str
    kind: str = ""
    """`Client` or `Exporter`; empty where the router is called."""
    namespace: str = ""
    name: str = ""

    @classmethod
    def of(cls, details: grpc.HandlerCallDetails) -> _Call:
        metadata = {str(key): str(value) for key, value in details.invocation_metadata or ()}
        names = (metadata.get(f"jumpstarter-{what}", "") for what in ("kind", "namespace", "name"))
        return cls(details.method.rpartition("/")[2], *names)


_Act = Callable[[_Call, "Context", Any], Awaitable[None]]
"""What a call suffers; it may change the request."""


@dataclass(frozen=True, slots=True)
class _Whom:
    """Who suffers: kinds of callers, and single ones by name."""

    kinds: frozenset[str]
    names: frozenset[str] = frozenset()

    def has(self, call: _Call) -> bool:
        return call.kind in self.kinds or call.name in self.names


@dataclass(slots=True)
class _Trouble:
    """What calls suffer, which, and how long."""

    act: _Act
    methods: Collection[str]
    whom: _Whom
    end: float
    left: float
    is_late: bool = False
    """Whether it comes once the call is carried out."""

    def takes(self, call: _Call) -> bool:
        """Return whether a call is affected, and count it."""
        is_for = call.method in self.methods and (self.whom.has(call) or call.method == _ROUTER)
        if not is_for or call.name == WATCHER or self.left <= 0 or time.monotonic() >= self.end:
            return False
        self.left -= 1
        return True


class Weather(grpc.aio.ServerInterceptor):
    """
    Lets calls suffer as it is ordered to; has to come before the interceptors that make streams breakable.

    Args:
        names: All clients and exporters that may be named.
        on_restart: Called with a test by name, when exporters are to suffer the start of a lab controller, which ends
            the streams of those that it holds for.
        on_router: Called when the router goes away, which ends all streams through it.
    """

    ORDERS = ("fail", "silence", "slow", "lose", "rename", "start", "database", "router", "calm", "calls")

    def __init__(
        self,
        names: Collection[str],
        *,
        on_restart: Callable[[Callable[[str], bool]], object],
        on_router: Callable[[], object],
    ) -> None:
        self._names = names
        self._on_restart = on_restart
        self._on_router = on_router
        self._troubles: list[_Trouble] = []
        self._calls: Counter[_Call] = Counter()

    def obey(self, words: list[str]) -> str:
        """
        Carry out one of `ORDERS` and return its answer.

        Raises:
            ValueError: It cannot be understood.
        """
        (word, *rest), options = _options(words)
        whom = self._whom(options["to"]) if "to" in options else None
        match word, rest:
            case "calls", []:
                return json.dumps(self._counts(whom))
            case "calm", []:
                self._troubles = [trouble for trouble in self._troubles if whom not in (None, trouble.whom)]
            case _:
                self._begin(word, rest, whom or self._whom(_CLIENTS), options)
        return "done"

    def _whom(self, text: str) -> _Whom:
        if text in _WHOM:
            return _Whom(_WHOM[text])
        known = dict.fromkeys((*_WHOM, *self._names))
        for name in (names := text.split(",")):
            _of(known, name)
        return _Whom(frozenset(), frozenset(names))

    def _counts(self, whom: _Whom | None) -> dict[str, dict[str, int]]:
        """Return how many calls have come, by who called (nothing for the router) and method."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for call, n in self._calls.items():
            if whom is None or whom.has(call):
                counts[call.kind][call.method] += n
        return dict(counts)

    def _begin(self, word: str, rest: list[str], whom: _Whom, options: Mapping[str, str]) -> None:
        act, methods = self._act(word, rest)
        end = time.monotonic() + parse_duration(options["for"]) if "for" in options else math.inf
        left = float(options.get("times", math.inf))
        self._troubles.append(_Trouble(act, methods, whom, end, left, is_late=word == "lose"))
        if word == "start":
            self._on_restart(lambda exporter: whom.has(_Call("", "Exporter", "", exporter)))
        if word == "router":
            self._on_router()

    def _act(self, word: str, rest: list[str]) -> tuple[_Act, Collection[str]]:
        match word, rest:
            case "fail", [methods, code, text]:
                return _refuse(_of(grpc.StatusCode.__members__, code), text), _methods(methods)
            case (("silence" | "lose"), [methods]):
                act = _be_silent if word == "silence" else _refuse(grpc.StatusCode.UNAVAILABLE, _LOST)
                return act, _methods(methods)
            case "slow", [methods, delay]:
                return _wait(parse_duration(delay)), _methods(methods)
            case "rename", []:
                return _take_the_id, {"CreateLease"}
            case (("start" | "database"), []):
                return _refuse(grpc.StatusCode.UNKNOWN, _STARTING) if word == "start" else _miss_the_database, _ALL
            case "router", []:
                return _refuse(grpc.StatusCode.UNAVAILABLE, _NO_ROUTER), {_ROUTER}
        raise ValueError(f"{word} takes other words than {rest}")

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Count a call, and let it suffer if it is one of those that do."""
        handler = await continuation(details)
        call = _Call.of(details)
        self._calls[call] += 1
        troubles = [trouble for trouble in self._troubles if trouble.takes(call)]
        return _suffering(handler, call, troubles) if troubles and handler is not None else handler


def _options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Part an order from `for DURATION`, `times N` and `to WHOM` at its end."""
    options: dict[str, str] = {}
    while len(words) > 2 and words[-2] in ("for", "times", "to"):
        options[words[-2]] = words[-1]
        words = words[:-2]
    return words, options


def _of(known: Any, name: str) -> Any:
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return known[name]


def _methods(text: str) -> Collection[str]:
    """Return the methods in `GetLease,Dial`; `all` is all of the lab controller's, without the router's `Stream`."""
    if text == "all":
        return _ALL
    known = {name: name for name in (*sorted(_ALL), _ROUTER)}
    return {_of(known, name) for name in text.split(",")}


def _refuse(code: grpc.StatusCode, text: str) -> _Act:
    async def act(_: _Call, context: Context, _request: Any) -> None:
        await abort(context, Refusal(text, code))

    return act


async def _take_the_id(_call: _Call, _context: Context, request: Any) -> None:
    """Let the lab name the lease, as one does that ignores `lease_id`."""
    request.ClearField("lease_id")


async def _miss_the_database(call: _Call, context: Context, _request: Any) -> None:
    """Answer as a lab controller does whose Kubernetes API is away: it cannot even look up who calls."""
    kind = call.kind.lower()
    path = f"https://10.96.0.1:443/apis/jumpstarter.dev/v1alpha1/namespaces/{call.namespace}/{kind}s/{call.name}"
    reason = "dial tcp 10.96.0.1:443: connect: connection refused"
    await abort(context, Refusal(f'{kind} {call.namespace}/{call.name}: Get "{path}": {reason}'))


async def _be_silent(_call: _Call, _context: Context, _request: Any) -> None:
    """Never answer: the caller ends the call, by its deadline or otherwise."""
    await asyncio.Event().wait()


def _wait(delay: float) -> _Act:
    async def act(_call: _Call, _context: Context, _request: Any) -> None:
        await asyncio.sleep(delay)

    return act


def _suffering(handler: Any, call: _Call, troubles: Iterable[_Trouble]) -> Any:
    """Return a handler that does as `handler` does, once all trouble is suffered but that which comes later."""
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream

    async def answer(request: Any, context: Context) -> Any:
        for trouble in troubles:
            if not trouble.is_late:
                await trouble.act(call, context, request)
        result = await behaviour(request, context)
        for trouble in troubles:
            if trouble.is_late:
                await trouble.act(call, context, request)
        return result

    if handler.unary_unary:
        make: Any = grpc.unary_unary_rpc_method_handler
    else:
        make = grpc.unary_stream_rpc_method_handler if handler.unary_stream else grpc.stream_stream_rpc_method_handler
    return make(
        answer,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )

"""
Random answers of lab controllers, routers and exporters: they end in results or in errors of ours, in bounded time.

PYTEST_JUMPSTARTER_FUZZ is how many, and from which seed; see mutations.py. A failure names its round and seed.
"""

from __future__ import annotations

import random
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from client.controller import TOKEN, Controller, serve
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from jumpstarter_protocol import client_pb2, jumpstarter_pb2, jumpstarter_pb2_grpc, router_pb2, router_pb2_grpc
from mutations import Mutations, mutated, scrambled, wanted
from runs import until

import pytest_jumpstarter
from pytest_jumpstarter.client.v1 import Client, Route
from pytest_jumpstarter.device import blocking_calls, exporter_connection, tunnel
from pytest_jumpstarter.device.channel_target import ChannelTarget
from pytest_jumpstarter.device.drivers import DriverPolicy, Drivers
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, TlsAdvice
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import DeviceUnreachable, JumpstarterError
from pytest_jumpstarter.jumpstarter_private import DriverInvalidArgument, DriverMethodNotImplemented
from pytest_jumpstarter.leasing import LeaseRequest, Wanted, waiting
from pytest_jumpstarter.leasing.availability import Availability, hint_for
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms
from pytest_jumpstarter.leasing.own_lease import OwnLease
from pytest_jumpstarter.leasing.own_tags import OwnTags

PACKAGE = str(Path(pytest_jumpstarter.__file__).parent)
POLICY = DriverPolicy(unsafe=True, source="the test")
WANTED = Wanted(role="dut", selector="a=b", wait=0.05)
ROOT, POWER = (f"d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e{end}" for end in ("10", "11"))
GOOD_LEASE = client_pb2.Lease(
    name="namespaces/lab/leases/x", client="namespaces/lab/clients/ci", exporter="namespaces/lab/exporters/b"
)
GOOD_LEASE.conditions.add(type="Ready", status="True", reason="Ready", message="m")
GOOD_EXPORTER = client_pb2.Exporter(name="namespaces/lab/exporters/b", online=True, status=4, labels={"a": "b"})
GOOD_REPORT = jumpstarter_pb2.GetReportResponse(
    reports=[
        jumpstarter_pb2.DriverInstanceReport(
            uuid=ROOT, labels={"jumpstarter.dev/client": "jumpstarter_driver_composite.client.CompositeClient"}
        ),
        jumpstarter_pb2.DriverInstanceReport(
            uuid=POWER,
            parent_uuid=ROOT,
            labels={
                "jumpstarter.dev/name": "power",
                "jumpstarter.dev/client": "jumpstarter_driver_power.client.PowerClient",
            },
        ),
    ]
)
GOOD_STATUS = jumpstarter_pb2.GetStatusResponse(status=4, message="Ready")
GOOD_ENTRY = jumpstarter_pb2.LogStreamResponse(severity="INFO", message="hello")
GOOD_RESULT = jumpstarter_pb2.DriverCallResponse(uuid=POWER, result=Value(string_value="on"))
GOOD_READING = jumpstarter_pb2.StreamingDriverCallResponse(uuid=POWER)
GOOD_READING.result.struct_value.update({"voltage": 5.0, "current": 2.0})


def tolerate(call: Callable[[], object]) -> None:
    """Call something that may end in an error of ours, which can be shown."""
    try:
        call()
    except JumpstarterError as error:
        str(error)


def tolerate_in_driver(call: Callable[[], object]) -> None:
    """
    Call a driver, which may also end in the errors of Jumpstarter's driver clients and of gRPC.

    What a driver client makes of an answer is its own affair; but no other error may come from this package.
    """
    try:
        call()
    except (JumpstarterError, DriverInvalidArgument, DriverMethodNotImplemented, grpc.RpcError) as error:
        str(error)
    except Exception as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename.startswith(PACKAGE):
            raise


@pytest.fixture
def controller() -> Iterator[Controller]:
    """Run a lab controller that answers as the test says."""
    with serve(trustme.CA()) as controller:
        yield controller


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound the waits that answers decide about."""
    for name in ("AFTER_HOOK_TIMEOUT", "HOOK_TIMEOUT", "DIAL_TIMEOUT", "CONTROLLER_GRACE", "DECISION_TIMEOUT"):
        monkeypatch.setattr(waiting, name, 0.02)
    for module, name in (
        (exporter_connection, "CONNECT_TIMEOUT"),
        (blocking_calls, "CONNECT_PATIENCE"),
        (tunnel, "ROUTER_PATIENCE"),
    ):
        monkeypatch.setattr(module, name, 1.0)


def test_answers_of_a_lab_controller(controller: Controller) -> None:
    """Whatever a lab controller answers, client and leases bear it."""
    answers: dict[str, Message] = {
        "GetLease": GOOD_LEASE,
        "CreateLease": GOOD_LEASE,
        "UpdateLease": GOOD_LEASE,
        "ListLeases": client_pb2.ListLeasesResponse(leases=[GOOD_LEASE, GOOD_LEASE]),
        "GetExporter": GOOD_EXPORTER,
        "ListExporters": client_pb2.ListExportersResponse(exporters=[GOOD_EXPORTER]),
        "Dial": jumpstarter_pb2.DialResponse(router_endpoint="127.0.0.1:1", router_token="x"),
    }
    mutations = Mutations()
    for method, good in answers.items():
        controller.answers[method] = lambda _, context, method=method, good=good: mutations.of(method, good, context)  # type: ignore[misc]
    healths: dict[str, Any] = {}
    connector = Connector(policy=POLICY, settings=DeviceSettings(), events=Events(), healths=healths)
    with (
        closing(connector),
        Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca, timeout=2) as client,
    ):

        def act() -> None:
            controller.calls.clear()
            for read in (client.list_leases, client.list_exporters):
                tolerate(lambda read=read: [str(each) for each in read()])  # type: ignore[misc]
            tolerate(lambda: client.get_exporter("b"))
            tolerate(lambda: _survey(client))
            tolerate(lambda: hint_for(client, WANTED))
            lease = OwnLease(
                client,
                WANTED,
                LeaseRequest(selector="a=b", exporter=None, duration=60.0, tags={}, context={}),
                terms=Terms(ttl=60.0, max_hold=None),
                ids=LeaseIds(run="run", worker="main"),
                tags=OwnTags({}, Events()),
                events=Events(),
                connector=connector,
            )
            tolerate(lambda: _use(lease))

        mutations.rounds(act)


def _survey(client: Client) -> None:
    availability = Availability.ask(client, [WANTED])
    candidates = availability.of(WANTED)
    str(candidates), candidates.free, candidates.enabled, availability.complete_sets([[WANTED]])


def test_ready_lease_without_exporter(controller: Controller) -> None:
    """A lease that is Ready, but of no exporter, is waited for, and then a device error says so."""
    nameless = client_pb2.Lease()
    nameless.CopyFrom(GOOD_LEASE)
    nameless.exporter = ""
    controller.answers["GetLease"] = lambda *_: nameless
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca) as client:
        waiter = waiting.Waiter(client, Wanted(role="dut", selector="a=b", wait=20.0), Events())
        with pytest.raises(DeviceUnreachable, match="lease x is Ready, but the lab controller names no exporter of it"):
            waiter.until_ready("x")
    assert len(controller.calls) > 1


def _use(lease: OwnLease) -> None:
    if lease.obtain(patience=0.0):
        lease.prepare()
        tolerate(lambda: lease.look(1.0))
        tolerate(lambda: lease.extend(1.0))
        tolerate(lambda: lease.dial(threading.Event()))
        tolerate(lambda: lease.after_hook(threading.Event()))


class Exporter(jumpstarter_pb2_grpc.ExporterServiceServicer):
    """
    An exporter that answers whatever comes.

    Args:
        answer: Returns the answer to a method, given the good one.
    """

    def __init__(self, answer: Callable[[str, Message], Message]) -> None:
        self._answer = answer

    def GetReport(self, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: N802
        """Return drivers."""
        return self._answer("GetReport", GOOD_REPORT)

    def GetStatus(self, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: N802
        """Return a status."""
        return self._answer("GetStatus", GOOD_STATUS)

    def LogStream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:  # noqa: N802
        """Log something."""
        yield from (self._answer("LogStream", GOOD_ENTRY) for _ in range(3))

    def DriverCall(self, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: N802
        """Return a result."""
        return self._answer("DriverCall", GOOD_RESULT)

    def StreamingDriverCall(self, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:  # noqa: N802
        """Return readings of a power supply."""
        yield from (self._answer("StreamingDriverCall", GOOD_READING) for _ in range(3))


@contextmanager
def exporting(answer: Callable[[str, Message], Message]) -> Iterator[str]:
    """Serve such an exporter; yield its address."""
    exporter: Any = Exporter(answer)  # type: ignore[abstract]  # the rest are UNIMPLEMENTED
    server = grpc.server(futures.ThreadPoolExecutor(4))
    jumpstarter_pb2_grpc.add_ExporterServiceServicer_to_server(exporter, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


def test_answers_of_an_exporter() -> None:
    """Whatever an exporter reports and its drivers answer, the connection and the driver clients bear it."""
    mutations, portal = Mutations(), Portal()
    with closing(_Stopped(portal)), exporting(mutations.of) as address:
        target = ChannelTarget(address=address, credentials=None, options=[("grpc.enable_http_proxy", 0)])

        def act() -> None:
            connection = ExporterConnection(portal, POLICY, call_timeout=1.0)
            with closing(connection):
                advice = TlsAdvice(plain_text="", authority="")
                tolerate(
                    lambda: _look_at(
                        connection, portal, connection.open_channel(target, exporter="the exporter", advice=advice)
                    )
                )

        mutations.rounds(act)


def test_answers_of_drivers() -> None:
    """Whatever drivers answer that are what they should be, their calls and streams bear it."""
    mutations, portal = Mutations(), Portal()

    def answer(method: str, good: Message) -> Message:
        return mutations.of(method, good) if method.endswith("DriverCall") else good

    with closing(_Stopped(portal)), exporting(answer) as address, ExitStack() as stack:
        target = ChannelTarget(address=address, credentials=None, options=[("grpc.enable_http_proxy", 0)])
        connection = ExporterConnection(portal, POLICY, call_timeout=1.0)
        stack.callback(connection.close)
        advice = TlsAdvice(plain_text="", authority="")
        drivers = connection.open_channel(target, exporter="the exporter", advice=advice)
        mutations.rounds(lambda: _call_all(drivers))


@pytest.mark.parametrize("method", ["GetReport", "GetStatus", "LogStream"])
def test_answer_that_cannot_be_read(method: str) -> None:
    """Bytes that are no message are a device error, and in a log they are left out."""
    portal, garbage = Portal(), [True]

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            called = details.method.rpartition("/")[2]
            good = {"GetReport": GOOD_REPORT, "GetStatus": GOOD_STATUS, "LogStream": GOOD_ENTRY}[called]
            data = b"\xff" if called == method and garbage else good.SerializeToString()
            if called == "LogStream":
                return grpc.unary_stream_rpc_method_handler(lambda *_: iter([data, good.SerializeToString()]))
            return grpc.unary_unary_rpc_method_handler(lambda *_: data)

    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    connection = ExporterConnection(portal, POLICY)
    target = ChannelTarget(address=address, credentials=None, options=[("grpc.enable_http_proxy", 0)])

    def connect() -> Drivers:
        return connection.open_channel(target, exporter="b", advice=TlsAdvice(plain_text="", authority=""))

    with closing(_Stopped(portal)), closing(connection):
        if method == "GetReport":
            with pytest.raises(DeviceUnreachable, match="b cannot be used: its answer cannot be read"):
                connect()
            connection = ExporterConnection(portal, POLICY)
            garbage.clear()
        connect()
        garbage.append(True)
        if method == "GetReport":
            assert str(connection.probe(5.0, exporter="b")).startswith("b cannot be checked: ")
        elif method == "GetStatus":
            with pytest.raises(DeviceUnreachable, match="b does not tell its status: its answer cannot be read"):
                connection.status(5.0, exporter="b")
        else:
            log = ExporterLog(portal, "dut")
            assert connection.channel is not None
            log.start(connection.channel)
            until(lambda: any(entry.message == "hello" for entry in log.since_test()), timeout=20)
            log.stop()
        connection.close()
    server.stop(0).wait(10)


class _Stopped:
    """Stops a portal when it is closed."""

    def __init__(self, portal: Portal) -> None:
        self.close = portal.stop


def _call_all(drivers: Drivers) -> None:
    for path in list(drivers):
        tolerate_in_driver(lambda path=path: drivers[path].on())  # type: ignore[misc]
        tolerate_in_driver(lambda path=path: list(drivers[path].read()))  # type: ignore[misc]
        tolerate_in_driver(lambda path=path: drivers[path].call("status", 1, "x"))  # type: ignore[misc]


def _look_at(connection: ExporterConnection, portal: Portal, drivers: Drivers) -> None:
    log = ExporterLog(portal, "dut")
    assert connection.channel is not None
    log.start(connection.channel)
    _call_all(drivers)
    tolerate(lambda: connection.status(1.0, exporter="the exporter"))
    tolerate(lambda: connection.probe(1.0, exporter="the exporter"))
    connection.ping(1.0)
    "".join(str(entry) for entry in log.since_test())
    log.stop()


class Router(router_pb2_grpc.RouterServiceServicer):
    """A router that leads straight to an exporter, and changes what comes back: payloads, frames, their order."""

    def __init__(self, exporter: str, mutations: Mutations) -> None:
        self._exporter = exporter
        self._mutations = mutations

    def Stream(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Message]:  # noqa: N802
        """Carry one connection."""
        host, _, port = self._exporter.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            context.add_callback(lambda: _hang_up(connection))
            threading.Thread(target=_upstream, args=[request_iterator, connection], daemon=True).start()
            source = self._mutations.source("Stream")
            with suppress(OSError):
                while payload := connection.recv(source.choice((7, 100, 65536))):
                    yield from self._frames(source, payload, context)
        yield router_pb2.StreamResponse(frame_type=router_pb2.FRAME_TYPE_GOAWAY)

    def _frames(self, source: random.Random, payload: bytes, context: grpc.ServicerContext) -> Iterator[Message]:
        """Yield what becomes of one payload; most stay as they are, or no connection would come about."""
        good = router_pb2.StreamResponse(payload=payload)
        if source.random() < 0.7:
            yield good
            return
        self._mutations.note()
        what = source.choice(("bytes", "frame", "lost", "twice", "other first", "end"))
        if what == "end":
            context.abort(source.choice((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)), "the router says no")
        if what == "bytes":
            yield router_pb2.StreamResponse(payload=bytes(scrambled(source, bytearray(payload))))
        if what in ("frame", "other first"):
            yield mutated(source, good)
        if what in ("twice", "other first"):
            yield good
        if what == "twice":
            yield good


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _upstream(requests: Any, connection: socket.socket) -> None:
    with suppress(OSError, grpc.RpcError):
        for request in requests:
            connection.sendall(request.payload)
    _hang_up(connection)


@contextmanager
def routing(exporter: str, mutations: Mutations) -> Iterator[tuple[str, bytes]]:
    """Serve such a router; yield its endpoint and its CA."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    router_pb2_grpc.add_RouterServiceServicer_to_server(Router(exporter, mutations), server)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}", authority.cert_pem.bytes()
    finally:
        server.stop(0).wait(10)


def test_frames_of_a_router() -> None:
    """Whatever comes through a route, the tunnel and all calls over it end, in results or in errors."""
    mutations, portal = Mutations(), Portal()
    with (
        closing(_Stopped(portal)),
        exporting(lambda _, good: good) as exporter,
        routing(exporter, mutations) as (endpoint, authority),
    ):

        def act() -> None:
            channels = tunnel.RouterChannels(lambda _: grpc.ssl_channel_credentials(authority), lambda _: ())
            route = tunnel.Tunnel(lambda _: Route(endpoint=endpoint, token="x"), channels)
            connection = ExporterConnection(portal, POLICY, call_timeout=1.0)
            with closing(connection):
                tolerate(lambda: _look_at(connection, portal, connection.open_tunnel(route, exporter="the exporter")))

        mutations.rounds(act, share=0.05)  # many rounds wait for what was lost


def test_seed_shows_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call is answered depends on seed, round, method and the number of the call, and on no other call."""
    monkeypatch.setenv("PYTEST_JUMPSTARTER_FUZZ", "20:4711")
    assert wanted() == (20, 4711)
    seen: list[list[Message]] = []
    for order in (("GetStatus", "GetReport"), ("GetReport", "GetStatus")):
        mutations = Mutations()
        answers: list[Message] = []

        def act(order: tuple[str, ...] = order, it: Mutations = mutations, answers: Any = answers) -> None:
            found = {method: it.of(method, GOOD_REPORT) for method in order * 2}
            answers.extend(found[method] for method in sorted(found))

        mutations.rounds(act)
        assert 20 <= mutations.count < 30
        seen.append(answers)
    assert seen[0] == seen[1]
    assert len({answer.SerializeToString(deterministic=True) for answer in seen[0]}) > 5

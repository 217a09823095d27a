"""
Random answers of lab controllers and exporters: they end in results or in errors of ours, within a bounded time.

The environment variable PYTEST_JUMPSTARTER_FUZZ is the number of rounds, instead of a few. A failure names its seed.
"""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from client.controller import TOKEN, Controller, serve
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from jumpstarter_protocol import client_pb2, jumpstarter_pb2, jumpstarter_pb2_grpc

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device.channel_target import ChannelTarget
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_connection import ExporterConnection, TlsAdvice
from pytest_jumpstarter.device.exporter_log import ExporterLog
from pytest_jumpstarter.device.portal import Portal
from pytest_jumpstarter.errors import DeviceUnreachable, JumpstarterError
from pytest_jumpstarter.leasing import LeaseRequest, Wanted, waiting
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms
from pytest_jumpstarter.leasing.own_lease import OwnLease
from pytest_jumpstarter.leasing.own_tags import OwnTags

ROUNDS = int(os.environ.get("PYTEST_JUMPSTARTER_FUZZ", "120"))
SEED = 15
MOST_MEMORY = 32 * 2**20
LONGEST = 20.0  # seconds for one round, on a busy machine
POLICY = DriverPolicy(unsafe=True, source="the test")
TEXTS = (
    "", " ", "x", "a/b", "namespaces/lab/leases/x", "namespaces/lab/exporters/b", "namespaces//exporters/", "..",
    "\x1b[31mred\x1b[0m", "::error::x", "line\nline", "\x00", "\u202e", "ö" * 300, "9" * 5000, "None", "True",
    "False", "Ready", "Unsatisfiable", "Pending", "[HOOK_WARNING] x", "beforeLease hook", "jumpstarter.dev/name",
    "jumpstarter.dev/client", "jumpstarter_driver_power.client.PowerClient", "os.system", "not found", "127.0.0.1:1",
    "7" * 36, "d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e11",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 99, -1, 10**9, -(10**9), 2**31 - 1, -(2**31), 2**62, -(2**62), 2**63 - 1)
GOOD_LEASE = client_pb2.Lease(
    name="namespaces/lab/leases/x", client="namespaces/lab/clients/ci", exporter="namespaces/lab/exporters/b"
)
GOOD_LEASE.conditions.add(type="Ready", status="True", reason="Ready", message="m")
GOOD_EXPORTER = client_pb2.Exporter(name="namespaces/lab/exporters/b", online=True, status=4, labels={"a": "b"})
GOOD_REPORT = jumpstarter_pb2.GetReportResponse(
    reports=[
        jumpstarter_pb2.DriverInstanceReport(
            uuid="d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e10",
            labels={"jumpstarter.dev/client": "jumpstarter_driver_composite.client.CompositeClient"},
        ),
        jumpstarter_pb2.DriverInstanceReport(
            uuid="d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e11",
            parent_uuid="d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e10",
            labels={
                "jumpstarter.dev/name": "power",
                "jumpstarter.dev/client": "jumpstarter_driver_power.client.PowerClient",
            },
        ),
    ]
)


def scalar(source: random.Random, field: FieldDescriptor) -> Any:
    """Return a value for a field that is no message."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = source.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return source.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return float(source.choice(NUMBERS))
    number = source.choice(NUMBERS)
    small = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM)
    lowest = 0 if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64) else -(2**63)
    return max(lowest, number % 2**31 if small else number)


def spoil(source: random.Random, message: Any, share: float, depth: int = 0) -> None:
    """Give a share of the fields of a message other values."""
    for field in message.DESCRIPTOR.fields:
        if source.random() > share or depth > 3:
            continue
        if source.random() < 0.2:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[source.choice(TEXTS)] = source.choice(TEXTS)
        elif field.is_repeated and field.message_type is not None:
            for _ in range(source.choice((1, 2, 5))):
                spoil(source, getattr(message, field.name).add(), 0.7, depth + 1)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            spoil(source, getattr(message, field.name), 0.7, depth + 1)
        elif not field.is_repeated:
            setattr(message, field.name, scalar(source, field))


def mutated(source: random.Random, good: Message) -> Message:
    """Return a message like `good`, with some bytes or some fields changed."""
    message = type(good)()
    message.CopyFrom(good)
    if source.random() < 0.3:
        data = bytearray(good.SerializeToString())
        for _ in range(source.choice((1, 3, 10))):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            return type(good).FromString(bytes(data))
        except DecodeError:
            return message
    spoil(source, message, source.choice((0.1, 0.4, 0.9)))
    return message


def answering(source: random.Random, answers: dict[str, Message]) -> Callable[[str], Callable[..., Message]]:
    """Return what makes the handler of a method: it gives its answer, or seldom an error."""

    def handler(method: str) -> Callable[..., Message]:
        def answer(_: Any, context: grpc.ServicerContext) -> Message:
            if source.random() < 0.03:
                codes = [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED]
                context.abort(source.choice(codes), source.choice(TEXTS))
            return mutated(source, answers[method])

        return answer

    return handler


def memory() -> int:
    """Return the bytes of memory that this process has now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def rounds(act: Callable[[random.Random], None]) -> None:
    """
    Act as often as it takes; an error that is not ours fails the test, and so does a round that takes long.

    What the first rounds need is imports and caches. From then on memory must not grow, however many rounds there are.
    """
    settled = 0
    for number in range(ROUNDS):
        if number == ROUNDS // 4:
            settled = memory()
        began = time.monotonic()
        try:
            act(random.Random(f"{SEED}-{number}"))
        except Exception as error:
            error.add_note(f"round {number} of seed {SEED}")
            raise
        assert time.monotonic() - began < LONGEST, f"round {number} of seed {SEED}"
    grown = memory() - settled
    print(f"{ROUNDS} rounds: memory grew by {grown / 2**20:.1f} MiB")
    assert grown < MOST_MEMORY


def tolerate(call: Callable[[], object]) -> None:
    """Call something that may end in an error of ours, which can be shown."""
    try:
        call()
    except JumpstarterError as error:
        str(error)


@pytest.fixture
def controller() -> Iterator[Controller]:
    """Run a lab controller that answers as the test says."""
    with serve(trustme.CA()) as controller:
        yield controller


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound the waits that a lab controller's answers decide about."""
    for name in ("AFTER_HOOK_TIMEOUT", "HOOK_TIMEOUT", "DIAL_TIMEOUT", "CONTROLLER_GRACE", "DECISION_TIMEOUT"):
        monkeypatch.setattr(waiting, name, 0.02)


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
    healths: dict[str, Any] = {}
    connector = Connector(policy=POLICY, settings=DeviceSettings(), events=Events(), healths=healths)
    with (
        closing(connector),
        Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca, timeout=2) as client,
    ):

        def act(source: random.Random) -> None:
            handler = answering(source, answers)
            controller.answers.update({method: handler(method) for method in answers})
            controller.calls.clear()
            for read in (client.list_leases, client.list_exporters):
                tolerate(lambda read=read: [str(each) for each in read()])  # type: ignore[misc]
            tolerate(lambda: client.get_exporter("b"))
            lease = OwnLease(
                client,
                Wanted(role="dut", selector="a=b", wait=0.05),
                LeaseRequest(selector="a=b", exporter=None, duration=60.0, tags={}, context={}),
                terms=Terms(ttl=60.0, max_hold=None),
                ids=LeaseIds(run="run", worker="main"),
                tags=OwnTags({}, Events()),
                events=Events(),
                connector=connector,
            )
            tolerate(lambda: _use(lease))

        rounds(act)


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
    """An exporter that answers whatever comes."""

    def __init__(self) -> None:
        self.source = random.Random(SEED)

    def GetReport(self, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: N802
        """Return drivers that are none."""
        return mutated(self.source, GOOD_REPORT)

    def GetStatus(self, request: Any, context: grpc.ServicerContext) -> Message:  # noqa: N802
        """Return a status of any kind."""
        return mutated(self.source, jumpstarter_pb2.GetStatusResponse(status=4, message="Ready"))

    def LogStream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Message]:  # noqa: N802
        """Log anything."""
        entry = jumpstarter_pb2.LogStreamResponse(severity="INFO", message="hello")
        yield from (mutated(self.source, entry) for _ in range(3))


@contextmanager
def exporting() -> Iterator[tuple[Exporter, str]]:
    """Serve such an exporter."""
    exporter: Any = Exporter()  # type: ignore[abstract]  # the rest are UNIMPLEMENTED
    server = grpc.server(futures.ThreadPoolExecutor(4))
    jumpstarter_pb2_grpc.add_ExporterServiceServicer_to_server(exporter, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield exporter, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait(10)


def test_answers_of_an_exporter() -> None:
    """Whatever an exporter reports, the connection and the driver clients bear it."""
    portal = Portal()
    with exporting() as (exporter, address):

        def act(source: random.Random) -> None:
            exporter.source = source
            connection = ExporterConnection(portal, POLICY)
            with closing(connection):
                tolerate(lambda: _look_at(connection, portal, address))

        rounds(act)
    portal.stop()


def _look_at(connection: ExporterConnection, portal: Portal, address: str) -> None:
    drivers = connection.open_channel(
        ChannelTarget(address=address, credentials=None, options=[("grpc.enable_http_proxy", 0)]),
        exporter="the exporter",
        advice=TlsAdvice(plain_text="", authority=""),
    )
    log = ExporterLog(portal, "dut")
    assert connection.channel is not None
    log.start(connection.channel)
    for path in list(drivers):
        tolerate(lambda path=path: drivers[path])  # type: ignore[misc]
    tolerate(lambda: connection.status(1.0, exporter="the exporter"))
    "".join(str(entry) for entry in log.since_test())
    log.stop()

"""What later releases of Jumpstarter add is used where the installed stubs have it, and harmless where they do not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing
from typing import Any

import grpc
import pytest
import trustme
from client.controller import TOKEN, Controller, serve
from google.protobuf.empty_pb2 import Empty
from jumpstarter_protocol import client_pb2, jumpstarter_pb2
from lab.peers import STATUSES
from newer_protocol import newer

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.client.v1 import client as client_module
from pytest_jumpstarter.client.v1.service import has_field
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.errors import DeviceUnreachable, LeaseTimeout, RequestError
from pytest_jumpstarter.leasing import Wanted, release, waiting
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms
from pytest_jumpstarter.leasing.leases import Leases
from pytest_jumpstarter.leasing.release import sweep
from pytest_jumpstarter.leasing.waiting import Waiter
from pytest_jumpstarter.report.terminal import Terminal

NEWER = newer()
NEW_IN_0_9 = ("tags", "tag_filter")
UUID = "d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e10"
READY = 4


def log_entries() -> Iterator[Any]:
    """Yield what a newer exporter logs of one driver call, and one entry of a source that nobody knows."""
    entry = NEWER["LogStreamResponse"]
    for text in ("Operation started: on", "relay 3 closed", "Operation completed: on"):
        message = entry(uuid=UUID, severity="INFO", message=text, source=1, driver_type="relay")
        if text.startswith("Operation"):
            message.operation = "on"
            message.timestamp.seconds = 1_800_000_000
            message.structured_fields["elapsed"] = 0.5
        yield message
    yield entry(severity="NOTICE", message="of a new kind", source=77)


class _Handler(grpc.GenericRpcHandler):
    """An exporter of a later release; its methods are those that a run needs, and one that nobody knows."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method."""
        method = details.method.rpartition("/")[2]
        if method == "LogStream":
            return grpc.unary_stream_rpc_method_handler(lambda *_: log_entries(), None, _serialized)
        if method == "GetStatus":
            answer: Any = NEWER["GetStatusResponse"](status=READY, message="Ready")
        elif method == "GetReport":
            labels = {
                "jumpstarter.dev/client": "jumpstarter_driver_composite.client.CompositeClient",
                "jumpstarter.dev/of-tomorrow": "x",
            }
            report = NEWER["DriverInstanceReport"](uuid=UUID, labels=labels)
            answer = NEWER["GetReportResponse"](reports=[report], motd="Bench 4 moves on Friday.\n", descriptor_set="x")
        else:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda *_: answer, None, _serialized)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())


@pytest.fixture
def newer_exporter() -> Iterator[str]:
    """Serve an exporter of a later release; yield its address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([_Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(10)


@pytest.mark.parametrize("has_newer_stubs", [False, True], ids=["old stubs", "newer stubs"])
def test_newer_exporter(
    newer_exporter: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, has_newer_stubs: bool
) -> None:
    """Its message of the day is shown once; new fields of its log are kept, and the entries of calls folded away."""
    for name in ("GetReportResponse", "LogStreamResponse", "DriverInstanceReport") if has_newer_stubs else ():
        monkeypatch.setattr(jumpstarter_pb2, name, NEWER[name])
    pytester.makeini("[pytest]\njmp_scope = function\n")
    pytester.makepyfile("def test_it(dut): assert 0\ndef test_more(dut): pass")
    result = pytester.runpytest(f"--jmp-direct=grpc://{newer_exporter}", "--jmp-artifacts=out")
    result.assert_outcomes(passed=1, failed=1)
    shown = result.stdout.str()
    assert shown.count("message of the day: Bench 4 moves on Friday.") == has_newer_stubs
    assert "INFO relay 3 closed" in shown
    assert ("Operation started" in shown) is not has_newer_stubs
    (file,) = (pytester.path / "out").rglob("exporter.jsonl")
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["message"] for each in kept[:4]] == [each.message for each in log_entries()]
    assert [each["level"] for each in kept[:4]] == ["INFO"] * 4
    assert kept[3]["source"] == "system"
    details = {"driver_type": "relay", "operation": "on", "timestamp": "2027-01-15T08:00:00Z"}
    assert kept[0].get("details") == (details | {"structured_fields": {"elapsed": 0.5}} if has_newer_stubs else None)


def test_motd_of_two_workers(pytester: pytest.Pytester) -> None:
    """In xdist's controller process a text of several workers is shown once, and in a worker it is sent once."""
    sent: list[tuple[str, str]] = []
    worker = Terminal(pytester.parseconfig(), elsewhere=lambda what, text: sent.append((what, text)))
    for _ in range(2):
        worker.say_once("hello")
    assert sent == [("say_once", "hello")]


@pytest.fixture
def controller() -> Iterator[Controller]:
    """Run a lab controller that answers as the test says."""
    with serve(trustme.CA()) as controller:
        yield controller


@pytest.fixture
def client(controller: Controller) -> Iterator[Client]:
    """Return a client of it."""
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca) as client:
        yield client


def test_newer_controller(controller: Controller, client: Client) -> None:
    """New fields, conditions and statuses of leases and exporters are left aside."""
    lease = NEWER["Lease"](name="namespaces/lab/leases/x", client="namespaces/lab/clients/ci", shared_with="others")
    lease.exporter = "namespaces/lab/exporters/b"
    lease.members["a"] = 1
    for kind in ("OfTomorrow", "Ready"):
        lease.conditions.add(type=kind, status="True", reason="Ready")
    exporter = NEWER["Exporter"](name="namespaces/lab/exporters/b", online=True, status=77, exporter_set="pool")
    controller.answers["GetLease"] = lambda *_: lease
    controller.answers["GetExporter"] = lambda *_: exporter
    found = client.get_lease("x")
    assert (found.is_ready, found.is_ended, found.exporter) == (True, False, "b")
    assert client.get_exporter("b").status == "STATUS_77"


def test_leases_with_names_of_the_lab(controller: Controller, client: Client) -> None:
    """The leases of a lost process are found by their tags too, where the lab controller names leases itself."""
    mine = client_pb2.Lease(name="namespaces/lab/leases/0199-a", client="namespaces/lab/clients/ci")
    mine.tags.update({"run": "1f2e", "lease": "pj-1f2e-gw1-1"})
    other = client_pb2.Lease(name="namespaces/lab/leases/0199-b", client="namespaces/lab/clients/ci")
    other.tags.update({"run": "1f2e", "lease": "pj-1f2e-gw10-1"})
    active = {each.name: each for each in (mine, other)}
    controller.answers["ListLeases"] = lambda *_: client_pb2.ListLeasesResponse(leases=active.values())

    def delete(request: Any, _: Any) -> Empty:
        del active[request.name]
        return Empty()

    controller.answers["DeleteLease"] = delete
    assert sweep(client, "pj-1f2e-gw1-", is_kept=lambda _: False) == ""
    assert list(active) == [other.name]


@pytest.mark.parametrize("has_tags", [True, False], ids=["tags", "stubs without tags"])
@pytest.mark.parametrize("is_there", [True, False], ids=["created", "not created"])
def test_release_of_a_lease_with_an_unknown_name(
    controller: Controller, client: Client, monkeypatch: pytest.MonkeyPatch, has_tags: bool, is_there: bool
) -> None:
    """If the answer to CreateLease is lost, the lease is released by its tag; without tags it is unknown, and told."""
    active: dict[str, client_pb2.Lease] = {}
    named: set[str] = set()

    def create(request: Any, context: grpc.ServicerContext) -> Any:
        if is_there:
            name = f"namespaces/lab/leases/0199-{len(active)}"
            tags = request.lease.tags
            active[name] = client_pb2.Lease(name=name, client="namespaces/lab/clients/ci", tags=tags)
        named.add(request.lease_id)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def delete(request: Any, context: grpc.ServicerContext) -> Empty:
        if active.pop(request.name, None) is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such lease")
        return Empty()

    controller.refuse("GetLease", grpc.StatusCode.UNKNOWN, "oidc: authenticator not initialized")
    controller.answers["ListLeases"] = lambda *_: client_pb2.ListLeasesResponse(leases=active.values())
    controller.answers.update(CreateLease=create, DeleteLease=delete)
    if not has_tags:
        monkeypatch.setattr(client_module, "has_field", lambda it, name: name not in NEW_IN_0_9 and has_field(it, name))
    policy = DriverPolicy(allow=(), unsafe=True, source="the test")
    connector = Connector(policy=policy, settings=DeviceSettings(), events=Events(), healths={})
    leases = Leases(client, events=Events(), ids=LeaseIds(), terms=Terms(), healths={}, connector=connector)
    wanted, request = leases.request_for(Wanted(role="dut", selector="a=b", wait=2.0))
    managed = leases.new(wanted, request, since=time.monotonic())
    with closing(connector), pytest.raises((LeaseTimeout, RequestError)):
        managed.obtain()
    assert len(named) == 1
    assert bool(active) is (is_there and not has_tags)
    (name,) = named
    unknown = f"it is unknown whether lease {name} exists: its request was not answered, it has no tags, and the lab "
    assert managed.failure.startswith(unknown) if not has_tags else managed.failure == ""


def dialling(controller: Controller, client: Client, dial_timeout: float | None) -> tuple[Waiter, list[str]]:
    """Return a waiter of a client whose config has this timeout, and the good answers to Dial, before refusals."""
    answers: list[str] = []

    def dial(_: Any, context: grpc.ServicerContext) -> Any:
        if not answers:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "exporter is not ready")
        return jumpstarter_pb2.DialResponse(router_endpoint=answers.pop(), router_token="x")

    controller.answers["Dial"] = dial
    mine = client_pb2.Lease(name="namespaces/lab/leases/x", client="namespaces/lab/clients/ci")
    controller.answers["GetLease"] = lambda *_: mine
    client.config = ClientConfig(
        endpoint=controller.endpoint, token=TOKEN, namespace="lab", name="ci", dial_timeout=dial_timeout
    )
    return Waiter(client, Wanted(role="dut", selector="a=b"), Events()), answers


@pytest.mark.parametrize(("dial_timeout", "seconds"), [(None, 0.1), (1.0, 1.0)])
def test_dial_timeout_of_the_client_config(
    controller: Controller, client: Client, monkeypatch: pytest.MonkeyPatch, dial_timeout: float | None, seconds: float
) -> None:
    """`leases.dial_timeout` says for how long an exporter that is not ready is dialled: the first time, and later."""
    monkeypatch.setattr(waiting, "DIAL_TIMEOUT", 0.1)
    monkeypatch.setattr(waiting, "EXPORTER_RESTART", 0.1)
    waiter, answers = dialling(controller, client, dial_timeout)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(DeviceUnreachable, match=r"lease x cannot be dialled: .* is not ready"):
            waiter.dial("x", threading.Event())
        assert seconds <= time.monotonic() - began < 10
        answers.append("127.0.0.1:1")
        assert waiter.dial("x", threading.Event()).endpoint == "127.0.0.1:1"


def test_release_that_has_to_wait(controller: Controller, client: Client) -> None:
    """A release that is refused for the moment is told once with the reason, and tried again."""
    refusals = ["exporter b is flashing: power must stay on"] * 3

    def delete(_: Any, context: grpc.ServicerContext) -> Empty:
        if refusals:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, refusals.pop())
        return Empty()

    controller.answers["DeleteLease"] = delete
    said: list[str] = []
    assert release.delete(client, "x", lease_id="x", is_created=True, say=said.append) == "x"
    assert refusals == []
    (line,) = said
    assert line.startswith("lease x cannot be released yet: ")
    assert "power must stay on" in line


def test_draining(controller: Controller, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that ends work of the lease before it is free says so, and is waited for."""
    monkeypatch.setattr(waiting, "_QUIET", 0.0)
    states = [("AFTER_LEASE_HOOK", "draining: 1 transfer")] * 8 + [("AVAILABLE", "")]

    def get(*_: Any) -> client_pb2.Exporter:
        status, message = states.pop(0) if len(states) > 1 else states[0]
        return client_pb2.Exporter(
            name="namespaces/lab/exporters/b", status=STATUSES.index(status), status_message=message, online=True
        )

    controller.answers["GetExporter"] = get
    events = Events()
    said: list[str] = []
    events.say = said.append
    assert Waiter(client, Wanted(role="dut", selector="a=b"), events).until_cleaned_up("b", threading.Event()) == ""
    assert [line.partition(": ")[2] for line in said] == ["the afterLease hook of b is running (draining: 1 transfer)"]


@pytest.mark.parametrize("has_context", [False, True])
def test_context_of_a_lease(monkeypatch: pytest.MonkeyPatch, client: Client, has_context: bool) -> None:
    """A lease is requested with its context where the installed stubs have such a field, and without it elsewhere."""
    sent: list[Any] = []

    class Sent(Exception):
        pass

    def request(method: str, body: Any, **_: Any) -> None:
        sent.append(body)
        raise Sent

    monkeypatch.setattr(client_module, "Request", request)
    monkeypatch.setattr(client_module, "has_field", lambda message, field: field != "context" or has_context)
    with pytest.raises(Sent):
        client.create_lease(lease_id="x", selector="a=b", context={"commit": "1f2e"})
    assert sent[0]["lease"].get("context") == ({"commit": "1f2e"} if has_context else None)

"""A lab that fails on demand: what each order does, to whom, and for how long."""

from __future__ import annotations

import json
import queue
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_protocol import client_pb2, router_pb2

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import ControllerUnreachable, RequestError, RequestTimeout, TemporaryFailure
from pytest_jumpstarter.lab import Lab, faults
from pytest_jumpstarter.lab.weather import WATCHER, Weather

from .peers import Items, ManualExporter, Peer, refusal, wait_for

LAB_FILE = "metadata: {name: solo-1, labels: {kind: solo}}\n---\nmetadata: {name: solo-2, labels: {kind: other}}\n"
STARTING = ("UNKNOWN", "oidc: authenticator not initialized")

Order = Callable[[str], str]


@pytest.fixture(scope="module")
def faulty() -> Iterator[tuple[Lab, Path]]:
    """Serve a lab that takes orders, with one exporter that a test is itself."""
    with tempfile.TemporaryDirectory(prefix="pj-") as name:  # short enough for a socket's path
        folder = Path(name)
        (folder / "lab.yaml").write_text(LAB_FILE)
        with Lab([folder / "lab.yaml"], clients=[WATCHER, "other"], arguments=["--faults", name]) as lab:
            yield lab, folder


@pytest.fixture
def order(faulty: tuple[Lab, Path]) -> Iterator[Order]:
    """Return what gives an order; all trouble ends with the test."""
    give = partial(faults.order, faulty[1])
    yield give
    give("calm")


@pytest.fixture
def client(faulty: tuple[Lab, Path], order: Order) -> Iterator[Peer]:
    """Connect as a client that releases its leases in the end."""
    with Peer(faulty[0].client_config) as peer:
        yield peer
        order("calm")
        peer.delete_all()


@pytest.fixture
def exporter(faulty: tuple[Lab, Path], order: Order) -> Iterator[ManualExporter]:
    """Be the exporter, available."""
    with ManualExporter(faulty[0].config_dir / "exporters" / "solo-1.yaml") as manual:
        manual.join()
        yield manual
        order("calm")


def answer(call: Callable[[], Any]) -> tuple[str, str]:
    """Return the status code and text of a call that may be answered well."""
    try:
        return refusal(call)
    except pytest.fail.Exception:
        return ("OK", "")


def look(peer: Peer, *, timeout: float = 20.0) -> tuple[str, str]:
    """Ask for the exporter."""
    request = client_pb2.GetExporterRequest(name="namespaces/lab/exporters/solo-1")
    return answer(lambda: peer.call(peer.clients.GetExporter, request, timeout=timeout))


def listing(peer: Peer) -> tuple[str, str]:
    """List the leases."""
    request = client_pb2.ListLeasesRequest(parent="namespaces/lab")
    return answer(lambda: peer.call(peer.clients.ListLeases, request))


def report(exporter: ManualExporter) -> tuple[str, str]:
    """Report the exporter's status."""
    return answer(lambda: exporter.report("AVAILABLE"))


def counted(order: Order, kind: str, method: str) -> int:
    """Return how many such calls came so far."""
    number: int = json.loads(order("calls")).get(kind, {}).get(method, 0)
    return number


def leased(client: Peer, exporter: ManualExporter) -> tuple[str, Items]:
    """Lease the exporter until it can be dialled; return the lease's name, and the stream that tells it of dials."""
    lease = client.await_condition(client.create(selector="kind=solo").name, "Ready", "True", "Ready")
    name = lease.name.rpartition("/")[2]
    listen = exporter.listen(name)
    exporter.report("LEASE_READY")
    wait_for(lambda: answer(lambda: client.dial(name))[0] == "OK", "a listener")
    return name, listen


@contextmanager
def joined(client: Peer, exporter: ManualExporter, token: str) -> Iterator[tuple[Any, Any]]:
    """Yield both ends of a stream through the router, over which one frame has passed each way."""
    frame = router_pb2.StreamRequest(payload=b"x").SerializeToString()
    more: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    ends = [peer.stream(token, chain([frame], iter(more.get, b""))) for peer in (client, exporter)]
    try:
        assert [next(end) for end in ends] == [frame, frame]
        yield ends[0], ends[1]
    finally:
        for end in ends:
            more.put(b"")
            end.cancel()


class TestFail:
    """`fail METHODS CODE TEXT`: a status for an answer."""

    def test_so_many_times(self, order: Order, client: Peer) -> None:
        """The next N calls of a method are answered with the status, and those after them as always."""
        order('fail GetExporter UNKNOWN "etcdserver: leader changed" times 2')
        assert [look(client) for _ in range(3)] == [*[("UNKNOWN", "etcdserver: leader changed")] * 2, ("OK", "")]

    def test_so_long(self, order: Order, client: Peer) -> None:
        """It ends when its time is over."""
        order('fail GetExporter UNAVAILABLE "for a moment" for 0.5s')
        assert look(client) == ("UNAVAILABLE", "for a moment")
        wait_for(lambda: look(client)[0] == "OK", "the end of it")

    def test_some_methods(self, order: Order, client: Peer) -> None:
        """Only the methods that are named suffer."""
        order("fail GetExporter,CreateLease ABORTED conflict")
        assert (look(client), listing(client)) == (("ABORTED", "conflict"), ("OK", ""))
        assert refusal(lambda: client.create(selector="kind=solo")) == ("ABORTED", "conflict")

    def test_all_methods(self, order: Order, client: Peer) -> None:
        """`all` is every method of the lab controller, Dial among them."""
        order("fail all RESOURCE_EXHAUSTED busy")
        assert look(client) == listing(client) == refusal(lambda: client.dial("x")) == ("RESOURCE_EXHAUSTED", "busy")

    @pytest.mark.parametrize(
        ("whom", "suffering"),
        [
            ("", (True, False)),
            ("to clients", (True, False)),
            ("to exporters", (False, True)),
            ("to everyone", (True,) * 2),
        ],
    )
    def test_whom(
        self, order: Order, client: Peer, exporter: ManualExporter, whom: str, suffering: tuple[bool, bool]
    ) -> None:
        """Clients suffer unless told otherwise, exporters only if they are named."""
        order(f"fail all INTERNAL no {whom}")
        assert (look(client)[0] == "INTERNAL", report(exporter)[0] == "INTERNAL") == suffering

    def test_by_name(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """Single clients and exporters can be named; all others are left alone, and can be left alone again."""
        order("fail all INTERNAL no to other")
        assert (look(client)[0], report(exporter)[0]) == ("OK", "OK")
        order("fail all INTERNAL no to solo-1,other")
        assert (look(client)[0], report(exporter)[0]) == ("OK", "INTERNAL")
        order("fail all UNKNOWN busy to default")
        order("calm to solo-1,other")
        assert (look(client)[0], report(exporter)[0]) == ("UNKNOWN", "OK")

    def test_calm(self, order: Order, client: Peer) -> None:
        """`calm` ends what has no end of its own."""
        order("fail all UNKNOWN no")
        assert look(client) == ("UNKNOWN", "no")
        order("calm")
        assert look(client) == ("OK", "")

    def test_refused_writes_change_nothing(self, order: Order, client: Peer) -> None:
        """A call that is answered with a status was never carried out."""
        order("fail CreateLease UNKNOWN no times 1")
        assert refusal(lambda: client.create("pj-never", selector="kind=solo")) == ("UNKNOWN", "no")
        assert refusal(lambda: client.lease("namespaces/lab/leases/pj-never"))[1].endswith("not found")


class TestStart:
    """`start`: a lab controller that has just started."""

    def test_its_words(self, order: Order, client: Peer) -> None:
        """Whoever calls gets the words of a lab controller that does not know its tokens yet."""
        order("start for 0.5s")
        assert look(client) == listing(client) == STARTING
        wait_for(lambda: look(client)[0] == "OK", "the end of the start")

    def test_for_clients_only(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """Where only clients suffer, exporters keep their streams and hear of a lease."""
        order("start times 1")
        assert look(client) == STARTING
        client.create(selector="kind=solo")
        assert exporter.status.next().leased

    def test_for_another_exporter(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """Where another exporter is named, this one keeps its streams."""
        order("start to solo-2")
        client.create(selector="kind=solo")
        assert exporter.status.next().leased

    def test_for_everyone(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """Where exporters suffer, their streams break, and new ones are answered like everybody."""
        order("start to everyone")
        assert refusal(exporter.status.next) == ("UNAVAILABLE", "the lab controller restarts")
        assert refusal(exporter.watch().next) == report(exporter) == look(client) == STARTING
        order("calm")
        assert exporter.watch().next().leased is False


@pytest.mark.parametrize("kind", ["client", "exporter"])
def test_database(order: Order, client: Peer, exporter: ManualExporter, kind: str) -> None:
    """`database`: Kubernetes' own words that it is away, about whoever calls; streams that are open stay."""
    order("database to everyone")
    name = {"client": "default", "exporter": "solo-1"}[kind]
    code, text = look(client) if kind == "client" else report(exporter)
    assert code == "UNKNOWN"
    assert text.startswith(f'{kind} lab/{name}: Get "https://10.96.0.1:443/apis/jumpstarter.dev/v1alpha1/')
    assert text.endswith(f'/{kind}s/{name}": dial tcp 10.96.0.1:443: connect: connection refused')
    order("calm")
    client.create(selector="kind=solo")
    assert exporter.status.next().leased


class TestRouter:
    """`router`, `cut` and `router-endpoint`: the way to an exporter."""

    def test_away(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """A router that goes away breaks its streams and takes no other until it is back; then the next one joins."""
        lease, _ = leased(client, exporter)
        with joined(client, exporter, client.dial(lease).router_token) as ends:
            order("router")
            for end in ends:
                assert refusal(partial(next, end)) == ("UNAVAILABLE", "the router connection was cut")
        late = client.stream(client.dial(lease).router_token, [])
        assert refusal(partial(next, late)) == ("UNAVAILABLE", "the router is away")
        order("calm")
        with joined(client, exporter, client.dial(lease).router_token):
            pass

    def test_lab_controller_goes_on(self, order: Order, client: Peer) -> None:
        """The lab controller answers while its router is away."""
        order("router for 30s")
        assert look(client) == ("OK", "")

    def test_elsewhere(self, order: Order, client: Peer, exporter: ManualExporter, faulty: tuple[Lab, Path]) -> None:
        """Both ends are told that the router is where the order says, such as behind a proxy of a test's own."""
        try:
            order("router-endpoint 127.0.0.1:1")
            lease, listen = leased(client, exporter)
            assert client.dial(lease).router_endpoint == listen.next().router_endpoint == "127.0.0.1:1"
        finally:
            order(f"router-endpoint {faulty[0].endpoint}")


class TestSilence:
    """`silence`: calls that are taken and never answered."""

    def test_until_the_deadline(self, order: Order, client: Peer) -> None:
        """A call into the silence ends by its deadline; the next one is answered."""
        order("silence GetExporter times 1")
        assert look(client, timeout=0.3)[0] == "DEADLINE_EXCEEDED"
        assert look(client) == ("OK", "")

    def test_other_calls_go_on(self, order: Order, client: Peer) -> None:
        """What is not named is answered meanwhile, over the same connection."""
        order("silence GetExporter")
        waiting = client.clients.GetExporter.future(
            client_pb2.GetExporterRequest(name="namespaces/lab/exporters/solo-1"), metadata=client.metadata
        )
        assert listing(client) == ("OK", "")
        assert not waiting.done()
        waiting.cancel()

    def test_router(self, order: Order, client: Peer, exporter: ManualExporter) -> None:
        """`Stream` is the router: two ends that have come do not meet."""
        lease, _ = leased(client, exporter)
        token = client.dial(lease).router_token
        order("silence Stream")
        frame = router_pb2.StreamRequest(payload=b"x").SerializeToString()
        before = counted(order, "", "Stream")
        ends = [peer.stream(token, [frame]) for peer in (client, exporter)]
        wait_for(lambda: counted(order, "", "Stream") == before + 2, "both ends at the router")
        assert listing(client) == ("OK", "")
        assert not any(end.done() for end in ends)
        for end in ends:
            end.cancel()


def test_watcher(order: Order, faulty: tuple[Lab, Path], client: Peer) -> None:
    """One client never suffers, so that a test can see what goes on meanwhile."""
    order("start to everyone")
    with Peer(faulty[0].config_dir / "clients" / f"{WATCHER}.yaml") as watcher:
        assert (look(client), look(watcher)) == (STARTING, ("OK", ""))


def test_slow(order: Order, client: Peer) -> None:
    """`slow`: the answer comes, so much later."""
    order("slow GetExporter 0.5s times 1")
    before = time.monotonic()
    assert look(client) == ("OK", "")
    assert time.monotonic() - before >= 0.5


def test_lose(order: Order, client: Peer) -> None:
    """`lose`: the call is carried out, but whoever called is not told."""
    order("lose CreateLease times 1")
    assert refusal(lambda: client.create("pj-lost", selector="kind=solo")) == ("UNAVAILABLE", "Socket closed")
    assert client.lease("namespaces/lab/leases/pj-lost").name.endswith("/pj-lost")


def test_rename(order: Order, client: Peer) -> None:
    """`rename`: a lease gets a name of the lab's own, and keeps its tags."""
    order("rename times 1")
    lease = client.create("pj-mine", selector="kind=solo", tags={"lease": "pj-mine"})
    assert not lease.name.endswith("/pj-mine")
    assert client.lease(lease.name).tags == {"lease": "pj-mine"}
    assert client.create("pj-mine", selector="kind=solo").name.endswith("/pj-mine")


def test_troubles_add_up(order: Order, client: Peer) -> None:
    """What is slow and fails does both."""
    order("slow GetExporter 0.5s times 1")
    order("fail GetExporter UNKNOWN late times 1")
    before = time.monotonic()
    assert look(client) == ("UNKNOWN", "late")
    assert time.monotonic() - before >= 0.5


def test_calls_are_counted(order: Order, client: Peer, exporter: ManualExporter) -> None:
    """`calls` tells who called what, and how often; calls that fail count too."""
    before = [counted(order, "Client", "GetExporter"), counted(order, "Exporter", "ReportStatus")]
    order("fail GetExporter UNKNOWN no times 1")
    for _ in range(3):
        look(client)
    report(exporter)
    assert counted(order, "Client", "GetExporter") == before[0] + 3
    assert counted(order, "Exporter", "ReportStatus") == before[1] + 1


def test_calls_of_one(order: Order, client: Peer) -> None:
    """`calls to NAME` tells what this one called."""
    look(client)
    assert json.loads(order("calls to other")) == {}
    assert json.loads(order("calls to default"))["Client"]["GetExporter"] > 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nonsense", "there is no such order: nonsense"),
        ("", "there is no such order"),
        ("fail GetLeese UNKNOWN no", "'GetLeese' is none of "),
        ("fail GetLease NOPE no", "'NOPE' is none of OK, CANCELLED"),
        ("fail GetLease UNKNOWN too many words", "fail takes other words than "),
        ("start for ever", "ever"),
        ("start to nobody", "'nobody' is none of clients, exporters, everyone, default"),
        ("start times x", "could not convert"),
        ("token nobody", "there is no such order: token nobody"),
        ('fail GetLease UNKNOWN "no', "No closing quotation"),
    ],
)
def test_orders_that_are_none(order: Order, command: str, words: str) -> None:
    """An order that is misspelt is refused with the reason, and the lab goes on."""
    with pytest.raises(ValueError, match=re.escape(words)):
        order(command)
    assert json.loads(order("calls")) is not None


def test_every_order_is_in_the_table() -> None:
    """The module's docstring has a row for each order."""
    table = set(re.findall(r"^`([a-z-]+)[^`]*`  ", faults.__doc__ or "", re.MULTILINE))
    others = {"cut", "router-endpoint", "expire", "token", "trust", "remove", "restore", "clock"}
    assert table == {*Weather.ORDERS, *others}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("start", TemporaryFailure),
        ("database", TemporaryFailure),
        ('fail all UNKNOWN "etcdserver: leader changed"', TemporaryFailure),
        ('fail all UNAVAILABLE "upstream reset"', ControllerUnreachable),
        ("silence all", RequestTimeout),
    ],
)
def test_our_client_knows_that_it_passes(
    order: Order, faulty: tuple[Lab, Path], command: str, kind: type[RequestError]
) -> None:
    """The client of this package takes each trouble of the lab for what it is, and for passing."""
    with Client.from_config(faulty[0].client_config) as client:
        order(command)
        with pytest.raises(kind) as caught:
            client.get_exporter("solo-1", timeout=1.0)
        assert caught.value.finality == "passing"
        order("calm")
        assert client.get_exporter("solo-1").name == "solo-1"

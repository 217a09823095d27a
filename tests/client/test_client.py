"""The client against answers that no real lab controller gives on demand."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc import StatusCode
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

from pytest_jumpstarter.client.v1 import Client, Request
from pytest_jumpstarter.client.v1 import client as client_module
from pytest_jumpstarter.errors import (
    AlreadyExists,
    ClientConfigError,
    ControllerUnreachable,
    MethodUnavailable,
    NotFound,
    RequestInvalid,
    RequestTimeout,
    StatusError,
    TokenExpired,
    TransportError,
)

from .controller import TOKEN, Controller

PARENT = "namespaces/lab"


def lease(name: str = "pj-1", client: str = "ci") -> client_pb2.Lease:
    """Return a lease message."""
    return client_pb2.Lease(name=f"{PARENT}/leases/{name}", client=f"{PARENT}/clients/{client}", selector="a=b")


def in_turn(*answers: Message | tuple[StatusCode, str]) -> Callable[[Any, grpc.ServicerContext], Message]:
    """Give one answer after the other, the last one from then on."""
    left = list(answers)

    def answer(message: Any, context: grpc.ServicerContext) -> Message:
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, tuple):
            context.abort(*now)
        return now

    return answer


GONE = (StatusCode.UNAVAILABLE, "upstream reset")
MISSING = (StatusCode.UNKNOWN, 'leases.jumpstarter.dev "pj-1" not found')
TAKEN = (StatusCode.UNKNOWN, 'leases.jumpstarter.dev "pj-1" already exists')


def test_who_we_are_goes_along(client: Client, controller: Controller) -> None:
    """Each call carries kind, namespace, name and the token, and the headers of its request."""
    controller.answers["DeleteLease"] = in_turn(Empty())
    request = Request("DeleteLease", {"name": f"{PARENT}/leases/x"}, headers={"x-run": "7", "x-raw-bin": b"\x00"})
    assert client.send(request).code is StatusCode.OK
    wanted = {
        "jumpstarter-kind": "Client",
        "jumpstarter-namespace": "lab",
        "jumpstarter-name": "ci",
        "authorization": f"Bearer {TOKEN}",
        "x-run": "7",
        "x-raw-bin": b"\x00",
    }
    assert wanted.items() <= controller.calls[0].metadata.items()


def test_the_token_can_be_replaced(client: Client, controller: Controller) -> None:
    """A new token is used from the next call on, over the same channel."""
    controller.answers["DeleteLease"] = in_turn(Empty())
    client.delete_lease("x")
    client.token = "another-token"
    client.delete_lease("x")
    sent = [call.metadata["authorization"] for call in controller.calls]
    assert sent == [f"Bearer {TOKEN}", "Bearer another-token"]


def test_an_expired_token_is_renewed(client: Client, controller: Controller) -> None:
    """A request that was refused for its expired token is sent once more with the new one; later ones have it too."""

    def answer(message: Any, context: grpc.ServicerContext) -> Empty:
        if ("authorization", "Bearer another-token") not in context.invocation_metadata():
            context.abort(StatusCode.UNKNOWN, "oidc: token is expired (Token Expiry: 2026-01-01)")
        return Empty()

    controller.answers["DeleteLease"] = answer
    client.renew = lambda: "another-token"
    client.delete_lease("x")
    client.delete_lease("y")
    assert [call.metadata["authorization"] for call in controller.calls] == [
        f"Bearer {TOKEN}",
        "Bearer another-token",
        "Bearer another-token",
    ]


@pytest.mark.parametrize("token", [TOKEN, None])
def test_an_expired_token_that_cannot_be_renewed(client: Client, controller: Controller, token: str | None) -> None:
    """Without another token the refusal is the answer, and nothing is sent again."""
    controller.refuse("DeleteLease", StatusCode.UNKNOWN, "oidc: token is expired (Token Expiry: 2026-01-01)")
    client.renew = lambda: token
    with pytest.raises(TokenExpired):
        client.delete_lease("x")
    assert controller.methods() == ["DeleteLease"]


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "tökén"])
def test_a_broken_token_is_refused_unseen(client: Client, token: str) -> None:
    """A token that cannot be a header is refused, and not shown."""
    with pytest.raises(ClientConfigError, match="must be printable ASCII without spaces") as caught:
        client.token = token
    assert not token or token not in str(caught.value)


def test_nothing_shows_the_token(client: Client, controller: Controller) -> None:
    """No repr, and no local variable of a frame of ours that a traceback would show, holds the token."""
    controller.refuse("DeleteLease", StatusCode.INTERNAL)
    with pytest.raises(StatusError) as caught:
        client.delete_lease("x")
    shown = [repr(client), repr(caught.value), repr(caught.value.response), repr(client.token)]
    traceback = caught.value.__traceback__
    while traceback is not None:
        if "pytest_jumpstarter" in traceback.tb_frame.f_code.co_filename:
            shown += [repr(value) for value in traceback.tb_frame.f_locals.values()]
        traceback = traceback.tb_next
    assert len(shown) > 8
    assert not [text for text in shown if TOKEN in text]


def test_headers_and_trailers_arrive(client: Client, controller: Controller) -> None:
    """What the server sends along is in the response, as is the time it took."""

    def answer(message: Any, context: grpc.ServicerContext) -> Message:
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))
        return lease()

    controller.answers["GetLease"] = answer
    response = client.send(Request("GetLease", {"name": f"{PARENT}/leases/x"}))
    assert (response.headers["x-first"], response.trailers["x-last"]) == ("1", "2")
    assert response.json()["selector"] == "a=b"
    assert response.elapsed > 0


def test_a_read_is_tried_again(client: Client, controller: Controller) -> None:
    """A read that meets an unavailable lab controller is tried again within a second."""
    controller.answers["GetLease"] = in_turn(GONE, GONE, lease())
    assert client.get_lease("pj-1").name == "pj-1"
    assert controller.methods() == ["GetLease"] * 3


def test_a_read_is_not_tried_for_ever(client: Client, controller: Controller) -> None:
    """Three times unavailable is the answer."""
    controller.answers["GetLease"] = in_turn(GONE)
    with pytest.raises(ControllerUnreachable, match="upstream reset"):
        client.get_lease("pj-1")
    assert controller.methods() == ["GetLease"] * 3


@pytest.mark.parametrize("code", [StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAUTHENTICATED])
def test_an_answer_is_not_tried_again(client: Client, controller: Controller, code: StatusCode) -> None:
    """An error that the server gave is no reason to ask again."""
    controller.refuse("GetLease", code, "no")
    with pytest.raises(StatusError):
        client.get_lease("x")
    assert controller.methods() == ["GetLease"]


@pytest.mark.parametrize("method", ["DeleteLease", "RotateToken"])
def test_a_write_is_sent_once(client: Client, controller: Controller, method: str) -> None:
    """A write that meets an unavailable lab controller is not repeated."""
    controller.refuse(method, *GONE)
    with pytest.raises(ControllerUnreachable):
        client.delete_lease("x") if method == "DeleteLease" else client.rotate_token()
    assert controller.methods() == [method]


def test_timeout(client: Client, controller: Controller) -> None:
    """A call that gets no answer in time is a TimeoutError that names the call."""

    def silent(message: Any, context: grpc.ServicerContext) -> Message:
        controller.released.wait(30)
        return lease()

    controller.answers["GetLease"] = silent
    with pytest.raises(RequestTimeout, match=r"GetLease at 127\.0\.0\.1") as caught:
        client.get_lease("x", timeout=0.2)
    assert isinstance(caught.value, TimeoutError)
    controller.released.set()


def test_close_ends_a_call(client: Client, controller: Controller) -> None:
    """Closing the client ends a call under way in another thread, and later calls are refused."""
    arrived = threading.Event()

    def silent(message: Any, context: grpc.ServicerContext) -> Message:
        arrived.set()
        controller.released.wait(30)
        return lease()

    controller.answers["GetLease"] = silent
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.get_lease("x", timeout=30)
        except TransportError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert arrived.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.get_lease("x")


def test_many_threads(client: Client, controller: Controller) -> None:
    """Several threads may use one client at once, its first call included."""
    controller.answers["GetLease"] = lambda message, context: lease(message.name.rpartition("/")[2])
    got: list[str] = []
    threads = [threading.Thread(target=lambda i=i: got.append(client.get_lease(f"l{i}").name)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(got) == sorted(f"l{i}" for i in range(8))


def test_nothing_is_connected_before_the_first_call() -> None:
    """A client can be made for an endpoint that does not exist."""
    with Client("lab.invalid:1", token="t", namespace="n", name="c") as client:
        assert client.endpoint == "lab.invalid:1"


def test_invalid_requests_never_leave(client: Client, controller: Controller) -> None:
    """A typed method with a malformed name raises before anything is sent, lists included."""
    for call in (lambda: client.get_lease("../x"), lambda: client.list_leases(page_size=2**40)):
        with pytest.raises(RequestInvalid):
            call()
    assert controller.calls == []


def test_pages_are_followed(client: Client, controller: Controller) -> None:
    """A list asks for the next page when the last one is used up, and ends with the last."""

    def answer(message: Any, context: grpc.ServicerContext) -> Message:
        page = int(message.page_token or 0)
        exporters = [client_pb2.Exporter(name=f"{PARENT}/exporters/e{page}{i}") for i in range(message.page_size)]
        return client_pb2.ListExportersResponse(exporters=exporters, next_page_token=str(page + 1) if page < 2 else "")

    controller.answers["ListExporters"] = answer
    exporters = client.list_exporters(page_size=2)
    assert next(exporters).name == "e00"
    assert len(controller.calls) == 1
    assert [exporter.name for exporter in exporters] == ["e01", "e10", "e11", "e20", "e21"]
    assert len(controller.calls) == 3


def test_an_empty_page_is_not_the_end(client: Client, controller: Controller) -> None:
    """A page without items but with a token has a next page."""
    controller.answers["ListLeases"] = in_turn(
        client_pb2.ListLeasesResponse(next_page_token="1"), client_pb2.ListLeasesResponse(leases=[lease()])
    )
    assert [found.name for found in client.list_leases()] == ["pj-1"]


def test_pages_without_end(client: Client, controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always has one more page is an error, too."""
    monkeypatch.setattr(client_module, "MOST_PAGES", 5)
    tokens = count(1)
    controller.answers["ListLeases"] = lambda *_: client_pb2.ListLeasesResponse(next_page_token=str(next(tokens)))
    with pytest.raises(StatusError, match="returns more than 5 pages"):
        list(client.list_leases())
    assert len(controller.calls) == 5


def test_pages_in_a_circle_end(client: Client, controller: Controller) -> None:
    """A server that gives the same page token again is an error, not an endless list."""
    controller.answers["ListLeases"] = in_turn(client_pb2.ListLeasesResponse(leases=[lease()], next_page_token="1"))
    with pytest.raises(StatusError, match="the same page again and again"):
        list(client.list_leases())


def test_old_controllers_ignore_filters(client: Client, controller: Controller) -> None:
    """Ended leases, and those whose tags do not fit, are left out where the lab controller did not do so."""
    ended, tagged = lease("ended"), lease("tagged")
    ended.conditions.add(type="Ready", status="False", reason="Released")
    tagged.tags["run"] = "7"
    controller.answers["ListLeases"] = in_turn(client_pb2.ListLeasesResponse(leases=[ended, lease("plain"), tagged]))
    assert [found.name for found in client.list_leases()] == ["plain", "tagged"]
    assert [found.name for found in client.list_leases(only_active=False)] == ["ended", "plain", "tagged"]
    assert [found.name for found in client.list_leases(tag_filter="run=7")] == ["tagged"]


def test_selector_is_sent_canonical(client: Client, controller: Controller) -> None:
    """A lab controller refuses `==`, so a selector is sent in the canonical form."""
    controller.answers["CreateLease"] = in_turn(lease())
    client.create_lease(lease_id="pj-1", selector="b==1, a!=2", duration=60)
    assert controller.calls[-1].message.lease.selector == "a notin (2),b=1"


def test_create_is_resolved_by_looking(client: Client, controller: Controller) -> None:
    """An ambiguous CreateLease whose lease is there is a success, and no second one is sent."""
    controller.answers["CreateLease"] = in_turn(GONE)
    controller.answers["GetLease"] = in_turn(lease())
    assert client.create_lease(lease_id="pj-1", selector="a=b", duration=60).name == "pj-1"
    assert controller.methods() == ["CreateLease", "GetLease"]


def test_create_is_repeated_under_the_same_id(client: Client, controller: Controller) -> None:
    """An ambiguous CreateLease whose lease is not there is sent again with the same lease id."""
    controller.answers["CreateLease"] = in_turn(lease(), GONE, lease())
    controller.answers["GetLease"] = in_turn(MISSING)
    for _ in range(2):  # the first one shows that leases get the names that are asked for
        assert client.create_lease(lease_id="pj-1", selector="a=b", duration=60).name == "pj-1"
    assert controller.methods() == ["CreateLease", "CreateLease", "GetLease", "CreateLease"]
    assert {call.message.lease_id for call in controller.calls if call.method == "CreateLease"} == {"pj-1"}


TAGGED: Any = {"lease_id": "pj-1", "selector": "a=b", "duration": 60, "tags": {"lease": "pj-1"}}


def listing(**tags: str) -> client_pb2.ListLeasesResponse:
    """Return a list of a lease that the lab controller has named itself."""
    mine = lease("0199-a")
    mine.tags.update(tags)
    return client_pb2.ListLeasesResponse(leases=[mine])


def test_create_is_resolved_by_its_tag(client: Client, controller: Controller) -> None:
    """If the lab controller names leases itself, a lease is found by its tag, and no second one is requested."""
    controller.answers["CreateLease"] = in_turn(GONE)
    controller.answers["GetLease"] = in_turn(MISSING)
    controller.answers["ListLeases"] = in_turn(listing(lease="pj-1"))
    assert client.create_lease(**TAGGED).name == "0199-a"
    assert controller.methods() == ["CreateLease", "GetLease", "ListLeases"]
    assert client.keeps_ids is False


def test_create_is_repeated_where_no_lease_has_the_tag(client: Client, controller: Controller) -> None:
    """If there is no such lease by name and by tag, it is requested again."""
    controller.answers["CreateLease"] = in_turn(GONE, lease("0199-b"))
    controller.answers["GetLease"] = in_turn(MISSING)
    controller.answers["ListLeases"] = in_turn(listing(lease="pj-2"))
    assert client.create_lease(**TAGGED).name == "0199-b"
    assert controller.methods() == ["CreateLease", "GetLease", "ListLeases", "CreateLease"]


def test_create_without_a_tag_is_not_repeated(client: Client, controller: Controller) -> None:
    """Without a tag a lease may exist under any name: it is not requested again until it is known who names leases."""
    controller.answers["CreateLease"] = in_turn(GONE, lease())
    controller.answers["GetLease"] = in_turn(MISSING)
    with pytest.raises(ControllerUnreachable, match="it is unknown whether lease pj-1 exists"):
        client.create_lease(lease_id="pj-1", selector="a=b", duration=60)
    assert controller.methods() == ["CreateLease", "GetLease"]
    client.create_lease(lease_id="pj-1", selector="a=b", duration=60, may_exist=True)
    assert controller.methods()[2:] == ["GetLease", "CreateLease"]


def test_create_that_cannot_be_looked_for(client: Client, controller: Controller) -> None:
    """If the look is refused, that is no answer to CreateLease: the lease may exist."""
    controller.answers["CreateLease"] = in_turn(GONE)
    controller.answers["GetLease"] = in_turn((StatusCode.PERMISSION_DENIED, "permission denied"))
    with pytest.raises(ControllerUnreachable, match="it is unknown whether lease pj-1 exists") as caught:
        client.create_lease(**TAGGED, timeout=5)
    assert caught.value.response is not None
    assert caught.value.response.leaves_open


def test_already_exists_on_our_retry_is_ours(client: Client, controller: Controller) -> None:
    """Our first try, slow but successful, makes the second one fail: the lease is found and returned."""
    controller.answers["CreateLease"] = in_turn((StatusCode.DEADLINE_EXCEEDED, ""), TAKEN)
    controller.answers["GetLease"] = in_turn(MISSING, lease())
    controller.answers["ListLeases"] = in_turn(client_pb2.ListLeasesResponse())
    assert client.create_lease(**TAGGED).client == "ci"
    assert controller.methods() == ["CreateLease", "GetLease", "ListLeases", "CreateLease", "GetLease"]


def test_already_exists_at_once_is_not_ours(client: Client, controller: Controller) -> None:
    """A lease id that was taken before the first try is an error."""
    controller.answers["CreateLease"] = in_turn(TAKEN)
    with pytest.raises(AlreadyExists):
        client.create_lease(lease_id="pj-1", selector="a=b", duration=60)
    assert controller.methods() == ["CreateLease"]


def test_a_stranger_s_lease_is_not_taken(client: Client, controller: Controller) -> None:
    """The lease found under our id after an ambiguous failure must be ours."""
    controller.answers["CreateLease"] = in_turn(GONE)
    controller.answers["GetLease"] = in_turn(lease(client="eve"))
    with pytest.raises(AlreadyExists, match="belongs to client eve, not to ci"):
        client.create_lease(lease_id="pj-1", selector="a=b", duration=60)


def test_create_gives_up(client: Client, controller: Controller) -> None:
    """A lab controller that never answers ends in the first error, which says what is not known."""
    controller.answers["CreateLease"] = in_turn(GONE)
    controller.answers["GetLease"] = in_turn(GONE)
    with pytest.raises(ControllerUnreachable, match="it is unknown whether lease pj-1 exists"):
        client.create_lease(lease_id="pj-1", selector="a=b", duration=60, timeout=5)
    assert controller.methods().count("CreateLease") == 1  # a second one could make a second lease


def test_create_gives_up_where_the_retry_goes_nowhere(client: Client, controller: Controller) -> None:
    """That a later try was never sent does not tell what became of the first."""
    nowhere = (StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: Connection refused")
    controller.answers["CreateLease"] = in_turn(GONE, nowhere)
    controller.answers["GetLease"] = in_turn(MISSING)
    controller.answers["ListLeases"] = in_turn(client_pb2.ListLeasesResponse())
    with pytest.raises(ControllerUnreachable, match="it is unknown whether lease pj-1 exists") as caught:
        client.create_lease(**TAGGED, timeout=5)
    assert controller.methods().count("CreateLease") > 1
    assert caught.value.response is not None
    assert caught.value.response.leaves_open


def test_create_refused_on_the_retry(client: Client, controller: Controller) -> None:
    """A definite refusal of the second try is the answer."""
    controller.answers["CreateLease"] = in_turn(GONE, (StatusCode.INVALID_ARGUMENT, "invalid lease tags: a"))
    controller.answers["GetLease"] = in_turn(MISSING)
    controller.answers["ListLeases"] = in_turn(client_pb2.ListLeasesResponse())
    with pytest.raises(StatusError, match="invalid lease tags"):
        client.create_lease(**TAGGED)


def test_update_sends_only_what_changes(client: Client, controller: Controller) -> None:
    """UpdateLease carries name, changes and mask, short names made whole."""
    controller.answers["UpdateLease"] = in_turn(lease())
    client.update_lease("pj-1", duration=90, client="bob")
    sent = controller.calls[0].message
    assert sorted(sent.update_mask.paths) == ["client", "duration"]
    assert {field.name for field, _ in sent.lease.ListFields()} == {"name", "duration", "client"}
    assert sent.lease.client == f"{PARENT}/clients/bob"


def test_an_update_of_nothing(client: Client, controller: Controller) -> None:
    """An update without a change is the caller's mistake."""
    with pytest.raises(TypeError, match="something to change"):
        client.update_lease("pj-1")
    assert controller.calls == []


def test_ten_thousand_exporters(client: Client, controller: Controller) -> None:
    """A large lab is listed page by page."""

    def answer(message: Any, context: grpc.ServicerContext) -> Message:
        start = int(message.page_token or 0)
        stop = start + message.page_size
        exporters = [client_pb2.Exporter(name=f"{PARENT}/exporters/e{i}") for i in range(start, stop)]
        return client_pb2.ListExportersResponse(exporters=exporters, next_page_token=str(stop) if stop < 10_000 else "")

    controller.answers["ListExporters"] = answer
    assert len({exporter.name for exporter in client.list_exporters()}) == 10_000
    assert len(controller.calls) == 100


def test_import_brings_nothing_heavy() -> None:
    """The client loads gRPC and the stubs, and neither YAML nor pytest nor Jumpstarter itself."""
    code = "import sys; from pytest_jumpstarter.client.v1 import Client; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "grpc" in loaded
    assert not loaded & {"yaml", "pytest", "_pytest", "jumpstarter", "pydantic", "anyio"}


def test_dial(client: Client, controller: Controller) -> None:
    """Dial takes a short or whole lease name and returns router and token."""
    controller.answers["Dial"] = in_turn(jumpstarter_pb2.DialResponse(router_endpoint="r:1", router_token="s3cr3t"))
    for name in ("pj-1", f"{PARENT}/leases/pj-1"):
        route = client.dial(name)
        assert (route.endpoint, route.token) == ("r:1", "s3cr3t")
    assert {call.message.lease_name for call in controller.calls} == {"pj-1"}


@pytest.mark.parametrize("odd", ["../pj-1", "a/pj-1", "namespaces/other/leases/pj-1", "PJ-1", "☃", "\n", "x" * 254])
def test_dial_of_an_odd_name(client: Client, controller: Controller, odd: str) -> None:
    """A name that no lease of ours can have dials none."""
    with pytest.raises(RequestInvalid, match="Dial: lease_name must be the short name of a lease"):
        client.dial(odd)
    assert controller.calls == []


def test_rotate_token(client: Client, controller: Controller) -> None:
    """A rotated token is returned, hidden from repr, and not used until it is assigned."""
    controller.answers["RotateToken"] = in_turn(client_pb2.RotateTokenResponse(token="n3w-t0k3n"))
    rotated = client.rotate_token()
    assert (rotated.token, rotated.expiry, str(client.token)) == ("n3w-t0k3n", None, TOKEN)
    assert "n3w-t0k3n" not in repr(rotated)


def test_a_method_the_server_lacks(client: Client) -> None:
    """UNIMPLEMENTED has an error of its own."""
    with pytest.raises(MethodUnavailable, match=r"RotateToken at .*: the lab controller does not have this method"):
        client.rotate_token()


def test_not_found(client: Client, controller: Controller) -> None:
    """A lease that is not there is a NotFound that carries request and response."""
    controller.answers["GetLease"] = in_turn(MISSING)
    with pytest.raises(NotFound) as caught:
        client.get_lease("pj-1")
    assert caught.value.request is not None
    assert caught.value.response is not None
    assert caught.value.response.code is StatusCode.UNKNOWN


def test_supports(client: Client) -> None:
    """What the installed stubs have can be asked for by name."""
    assert client.supports("CreateLease")
    assert client.supports("Lease.selector")
    assert not client.supports("Lease.colour")
    assert not client.supports("Frobnicate")


def test_methods_are_a_table(client: Client) -> None:
    """The methods print as a table with their HTTP form and their fields."""
    assert client.methods["CreateLease"].http == ("POST", "/v1/{parent=namespaces/*}/leases")
    fields = {field.name: field for field in client.methods["CreateLease"].fields}
    assert fields["parent"].required
    assert fields["lease.conditions"].output_only
    assert fields["lease.tags"].type == "map<string, string>"
    assert "GET /v1/{name=namespaces/*/leases/*}" in str(client.methods)

"""Requests: what is refused before it leaves, and the HTTP form of what is not."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.client.v1 import HttpForm, Request
from pytest_jumpstarter.client.v1.service import descriptors, http_form, message_class
from pytest_jumpstarter.client.v1.transcoding import http_form_of
from pytest_jumpstarter.errors import RequestInvalid

PARENT = "namespaces/lab"
LEASE = "namespaces/lab/leases/x"
NEW = {"selector": "board=rpi4", "duration": 60}


def create(**lease: Any) -> Request:
    """Return a CreateLease with a selector and these fields besides."""
    return Request("CreateLease", {"parent": PARENT, "lease_id": "x", "lease": {**NEW, **lease}})


@pytest.mark.parametrize(
    ("method", "body", "form"),
    [
        ("GetExporter", {"name": "namespaces/lab/exporters/b"}, ("GET", "/v1/namespaces/lab/exporters/b", None)),
        (
            "ListExporters",
            {"parent": PARENT, "page_size": 5, "filter": "a in (b, c),d=ä&e"},
            ("GET", "/v1/namespaces/lab/exporters?page_size=5&filter=a%20in%20%28b%2C%20c%29%2Cd%3D%C3%A4%26e", None),
        ),
        ("GetLease", {"name": LEASE}, ("GET", "/v1/namespaces/lab/leases/x", None)),
        ("ListLeases", {"parent": PARENT}, ("GET", "/v1/namespaces/lab/leases", None)),
        (
            "ListLeases",
            {"parent": PARENT, "only_active": False, "page_token": "t/+"},
            ("GET", "/v1/namespaces/lab/leases?page_token=t%2F%2B&only_active=false", None),
        ),
        (
            "CreateLease",
            {"parent": PARENT, "lease_id": "x", "lease": NEW | {"tags": {"a": "b"}}},
            (
                "POST",
                "/v1/namespaces/lab/leases?lease_id=x",
                {"selector": NEW["selector"], "duration": "60s", "tags": {"a": "b"}},
            ),
        ),
        (
            "UpdateLease",
            {"lease": {"name": LEASE, "duration": 5}, "update_mask": ["duration"]},
            ("PATCH", "/v1/namespaces/lab/leases/x?update_mask=duration", {"duration": "5s"}),
        ),
        ("DeleteLease", {"name": LEASE}, ("DELETE", "/v1/namespaces/lab/leases/x", None)),
        ("RotateToken", {"parent": PARENT}, ("POST", "/v1/namespaces/lab/rotate-token", {})),
        ("Dial", {"lease_name": "x"}, None),
        ("GetLease", {"name": "namespaces/lab/leases/ä%x"}, ("GET", "/v1/namespaces/lab/leases/%C3%A4%25x", None)),
    ],
)
def test_http_form(method: str, body: Mapping[str, Any], form: tuple[str, str, object] | None) -> None:
    """Verb, URL and body come from the annotation: each field is in one of path, query and body."""
    assert Request(method, body).http == form


def from_http(method: MethodDescriptor, form: HttpForm) -> Message:
    """Read a call back from its HTTP form, by the rules of googleapis."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    template = getattr(rule, rule.WhichOneof("pattern"))
    path, _, query = form.url.partition("?")
    (name,) = re.findall(r"{([^=]+)=", template)
    pattern = re.sub(r"{[^}]+}", "(.+)", template)
    found = re.fullmatch(pattern, path)
    assert found is not None
    message: Any = message_class(method.input_type)()
    if rule.body:
        json_format.ParseDict(form.body or {}, message if rule.body == "*" else getattr(message, rule.body))
    else:
        assert form.body is None
    nested: dict[str, Any] = {}
    for key, value in [*parse_qsl(query, keep_blank_values=True), (name, unquote(found[1]))]:
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        assert last not in place
        place[last] = value
    for field in method.input_type.fields:  # booleans and numbers are texts in a query
        if field.name in nested and field.cpp_type not in (field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE):
            nested[field.name] = json.loads(nested[field.name])
    read = message_class(method.input_type)()
    json_format.ParseDict(nested, read)
    message.MergeFrom(read)
    result: Message = message
    return result


@pytest.mark.parametrize("method", sorted(name for name, it in descriptors().items() if http_form(it)))
def test_http_form_has_all(method: str) -> None:
    """From the HTTP form of a call, with whatever fields it has, a server gets the same message."""
    descriptor, source = descriptors()[method], random.Random(method)
    for _ in range(20):
        message: Any = message_class(descriptor.input_type)()
        for field in message.DESCRIPTOR.fields:
            if source.random() < 0.5:
                continue
            if field.cpp_type == field.CPPTYPE_STRING:
                setattr(message, field.name, source.choice(["a", "ä &=?#/%+", "x y"]))
            elif field.cpp_type == field.CPPTYPE_BOOL:
                setattr(message, field.name, source.random() < 0.5)
            elif field.cpp_type == field.CPPTYPE_INT32:
                setattr(message, field.name, source.choice([0, 1, -1, 2**31 - 1]))
        if "update_mask" in message.DESCRIPTOR.fields_by_name:
            message.update_mask.paths.extend(["duration", "end_time"])
            message.lease.duration.FromMilliseconds(1500)
            message.lease.tags["a"] = "b"
        place = message.lease if method == "UpdateLease" else message
        setattr(place, "parent" if "parent" in place.DESCRIPTOR.fields_by_name else "name", "namespaces/lab/leases/ä%x")
        form = http_form_of(descriptor, message)
        assert form is not None
        assert from_http(descriptor, form) == message


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("CreateLeas", {}, "there is no method 'CreateLeas'; did you mean CreateLease?"),
        ("Frobnicate", {}, "there is no method 'Frobnicate'; there are GetExporter, "),
        ("GetLease", {"nam": "x"}, "GetLeaseRequest has no field nam; did you mean name?"),
        ("CreateLease", {"parent": PARENT, "lease": {"selektor": "a"}}, "Lease has no field lease.selektor; did you"),
        ("GetLease", {}, "GetLease: name is required"),
        ("GetLease", {"name": None}, "GetLease: name is required"),
        ("GetLease", {"name": ""}, "GetLease: name is required"),
        ("ListLeases", {}, "ListLeases: parent is required"),
        ("CreateLease", {"parent": PARENT}, "CreateLease: lease is required"),
        (
            "CreateLease",
            {"parent": PARENT, "lease": {}},
            "CreateLease: lease.selector or lease.exporter_name is required",
        ),
        ("UpdateLease", {}, "UpdateLease: lease.name is required"),
        ("UpdateLease", {"lease": {"duration": 5}}, "UpdateLease: lease.name is required"),
        ("GetLease", {"name": 5}, "name must be string, not int 5"),
        ("GetLease", {"name": b"x"}, "name must be string, not bytes"),
        ("ListLeases", {"parent": PARENT, "page_size": "5"}, "page_size must be int32, not str '5'"),
        ("ListLeases", {"parent": PARENT, "page_size": True}, "page_size must be int32, not bool True"),
        ("ListLeases", {"parent": PARENT, "page_size": 2**31}, "page_size does not fit int32: 2147483648"),
        ("ListLeases", {"parent": PARENT, "only_active": 1}, "only_active must be bool, not int 1"),
        ("CreateLease", {"parent": PARENT, "lease": "x"}, "lease must be Lease, not str 'x'"),
        (
            "CreateLease",
            {"parent": PARENT, "lease": {"tags": ["a"]}},
            "lease.tags must be map<string, string>, not list",
        ),
        ("CreateLease", {"parent": PARENT, "lease": {"tags": {"a": 1}}}, "lease.tags['a'] must be string, not int 1"),
        ("CreateLease", {"parent": PARENT, "lease": {"tags": {1: "a"}}}, "lease.tags must have text for keys, not 1"),
        ("GetLease", {"name": "x"}, "GetLease: name must look like namespaces/*/leases/*, not 'x'"),
        ("GetLease", {"name": "namespaces/lab/exporters/x"}, "GetLease: name must look like namespaces/*/leases/*"),
        ("GetLease", {"name": "namespaces//leases/x"}, "GetLease: name must look like"),
        ("GetLease", {"name": "namespaces/lab/leases/../x"}, "GetLease: name must look like"),
        ("GetLease", {"name": "namespaces/../leases/x"}, "GetLease: name must look like"),
        ("GetLease", {"name": "namespaces/lab/leases/a b"}, "GetLease: name must look like"),
        ("GetLease", {"name": "namespaces/lab/leases/a\n"}, "GetLease: name must look like"),
        ("ListLeases", {"parent": LEASE}, "ListLeases: parent must look like namespaces/*, not"),
        (
            "UpdateLease",
            {"lease": {"name": LEASE, "client": "bob"}},
            "lease.client must look like namespaces/*/clients/*",
        ),
        ("UpdateLease", {"lease": {"name": LEASE, "selector": "a"}}, "lease.selector cannot change after creation"),
        ("UpdateLease", {"lease": {"name": LEASE, "exporter_name": "a"}}, "lease.exporter_name cannot change"),
        (
            "UpdateLease",
            {"lease": {"name": LEASE, "exporter": "namespaces/lab/exporters/a"}},
            "lease.exporter is set only by",
        ),
        ("UpdateLease", {"lease": {"name": LEASE, "duration": 0}}, "lease.duration is out of range: 0 s"),
        (
            "UpdateLease",
            {"lease": {"name": LEASE}, "update_mask": ["durration"]},
            "update_mask names 'durration'; did you",
        ),
        (
            "UpdateLease",
            {"lease": {"name": LEASE}, "update_mask": ["end_time"]},
            "UpdateLease: update_mask names end_time, which lease does not set",
        ),
        (
            "UpdateLease",
            {"lease": {"name": LEASE}, "update_mask": 5},
            "update_mask must be a list of field names, not int",
        ),
    ],
)
def test_refused(method: str, body: Mapping[str, Any], message: str) -> None:
    """A body that does not fit is refused, naming the method or the whole path of the field."""
    with pytest.raises(RequestInvalid) as caught:
        Request(method, body)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("lease", "message"),
    [
        ({"client": "namespaces/lab/clients/x"}, "lease.client is set only by the lab controller"),
        ({"conditions": [{"type": "Ready"}]}, "lease.conditions is set only by the lab controller"),
        ({"effective_duration": 5}, "lease.effective_duration is set only by the lab controller"),
        ({"duration": 0}, "lease.duration is out of range: 0 s is not more than 0 seconds"),
        ({"duration": -1.5}, "lease.duration is out of range: -1.5 s"),
        ({"duration": 1e11}, "lease.duration is out of range"),
        ({"duration": 1e300}, "lease.duration is out of range"),
        ({"duration": float("nan")}, "lease.duration is out of range"),
        ({"duration": "soon"}, "lease.duration: 'soon' is not a duration"),
        ({"duration": True}, "lease.duration must be seconds, a text such as 30m, or a timedelta, not bool True"),
        ({"duration": {"seconds": 1}}, "lease.duration must be seconds"),
        ({"begin_time": datetime(2030, 1, 1)}, "lease.begin_time has no time zone"),
        ({"begin_time": "tomorrow"}, "lease.begin_time is not an RFC 3339 time: 'tomorrow'"),
        ({"begin_time": 5}, "lease.begin_time must be a datetime with a time zone"),
    ],
)
def test_lease_refused(lease: Mapping[str, Any], message: str) -> None:
    """A lease with a field that it cannot have is refused."""
    with pytest.raises(RequestInvalid) as caught:
        create(**lease)
    assert message in str(caught.value)


@pytest.mark.parametrize("lease_id", ["../x", "A", "a_b", "-a", "a.", "a b", "ä", "a" * 254, "a/b", "a\n"])
def test_lease_id_refused(lease_id: str) -> None:
    """A lease id that cannot be the name of a Kubernetes object is refused before the server does."""
    with pytest.raises(RequestInvalid, match="lease_id must be lower-case"):
        Request("CreateLease", {"parent": PARENT, "lease_id": lease_id, "lease": NEW})


@pytest.mark.parametrize(
    ("value", "seconds"), [(90, 90.0), (0.25, 0.25), ("1h30m", 5400.0), (timedelta(minutes=2), 120.0)]
)
def test_durations(value: Any, seconds: float) -> None:
    """A duration may be seconds, text or a timedelta."""
    duration: Any = create(duration=value).body
    assert duration.lease.duration.ToTimedelta().total_seconds() == seconds


@pytest.mark.parametrize(
    "value",
    [
        datetime(2030, 1, 1, 12, tzinfo=UTC),
        datetime(2030, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        "2030-01-01T12:00:00Z",
    ],
)
def test_times(value: Any) -> None:
    """A time may be a datetime of any zone, or RFC 3339 text."""
    body: Any = create(begin_time=value).body
    assert body.lease.begin_time.ToJsonString() == "2030-01-01T12:00:00Z"


def test_a_message_does_too() -> None:
    """A body may be the message; it is copied, so that a later change to it changes nothing."""
    message = client_pb2.GetLeaseRequest(name=LEASE)
    request = Request("GetLease", message)
    message.name = "changed"
    body: Any = request.body
    assert body.name == LEASE


def test_a_message_is_checked_too() -> None:
    """A message is checked like a mapping."""
    with pytest.raises(RequestInvalid, match=r"lease\.selector or lease\.exporter_name is required"):
        Request(
            "CreateLease", client_pb2.CreateLeaseRequest(parent=PARENT, lease=client_pb2.Lease(duration=Duration()))
        )
    with pytest.raises(RequestInvalid, match="GetLease takes a mapping or GetLeaseRequest, not ListLeasesRequest"):
        Request("GetLease", client_pb2.ListLeasesRequest(parent=PARENT))


def test_exporter_name_will_do_for_a_selector() -> None:
    """CreateLease takes an exporter by name in the place of the REQUIRED selector."""
    body = {"parent": PARENT, "lease": {"exporter_name": "b", "duration": 5}}
    assert Request("CreateLease", body).http == (
        "POST",
        "/v1/namespaces/lab/leases",
        {"exporterName": "b", "duration": "5s"},
    )


def test_transfer_may_set_the_client() -> None:
    """UpdateLease may set `client`, OUTPUT_ONLY though it is: that hands the lease over."""
    body: Any = Request("UpdateLease", {"lease": {"name": LEASE, "client": "namespaces/lab/clients/bob"}}).body
    assert body.lease.client == "namespaces/lab/clients/bob"


def test_update_looks_at_masked_fields_alone() -> None:
    """A lease as the server gave it is a valid update with a mask over what changes, and only that is sent."""
    lease = client_pb2.Lease(
        name=LEASE, selector="a", exporter="namespaces/lab/exporters/b", duration=Duration(seconds=5)
    )
    request = client_pb2.UpdateLeaseRequest(lease=lease)
    with pytest.raises(RequestInvalid, match="selector cannot change"):
        Request("UpdateLease", request)
    request.update_mask.paths.append("duration")
    body: Any = Request("UpdateLease", request).body
    assert [field.name for field, _ in body.lease.ListFields()] == ["name", "duration"]
    request.update_mask.paths.append("exporter")
    with pytest.raises(RequestInvalid, match="exporter is set only by the lab controller"):
        Request("UpdateLease", request)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"authorization": "Bearer x"}, "'authorization' is set by the client itself"),
        ({"jumpstarter-name": "x"}, "'jumpstarter-name' is set by the client itself"),
        ({"grpc-timeout": "1S"}, "'grpc-timeout' is set by the client itself"),
        ({"X-Run": "1"}, "'X-Run' is malformed"),
        ({"x run": "1"}, "'x run' is malformed"),
        ({"x-run": "a\nb"}, "'x-run' must be printable ASCII"),
        ({"x-run": b"1"}, "'x-run' must be text"),
        ({"x-run-bin": "1"}, "'x-run-bin' must be bytes"),
    ],
)
def test_headers_refused(headers: Mapping[str, str | bytes], message: str) -> None:
    """A header that gRPC would refuse, or that is the client's own, is refused."""
    with pytest.raises(RequestInvalid) as caught:
        Request("GetLease", {"name": LEASE}, headers=headers)
    assert message in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeout_refused(timeout: float) -> None:
    """A timeout that leaves no time is refused."""
    with pytest.raises(RequestInvalid, match="timeout must be more than 0"):
        Request("GetLease", {"name": LEASE}, timeout=timeout)


def test_repr_is_the_call() -> None:
    """A request shows itself as the call that it is."""
    assert repr(Request("DeleteLease", {"name": LEASE})) == "<Request DeleteLease DELETE /v1/namespaces/lab/leases/x>"

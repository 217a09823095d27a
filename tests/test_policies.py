"""Access policies of a lab, which are not visible to clients: what is said when they are the reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any

import grpc
import pytest
import trustme
from client.controller import TOKEN, Controller, serve
from google.protobuf.empty_pb2 import Empty
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.collection.auto_workers import number_of_workers
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.errors import LeaseUnsatisfiable
from pytest_jumpstarter.lab_access import LabAccess, lab_access_of
from pytest_jumpstarter.leasing import Wanted
from pytest_jumpstarter.leasing.acquire import Member
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.connect import Connector, DeviceSettings
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.from_controller import ControllerSource
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms
from pytest_jumpstarter.leasing.leases import Leases
from pytest_jumpstarter.leasing.waiting import Waiter
from pytest_jumpstarter.report.terminal import Terminal
from pytest_jumpstarter.settings import SETTINGS
from pytest_jumpstarter.workers import NOTE
from pytest_jumpstarter.workers.channel import ControllerEnd, WorkerEnd
from pytest_jumpstarter.workers.controller import WorkersController
from pytest_jumpstarter.workers.refusals import Refusals


@pytest.fixture
def controller() -> Iterator[Controller]:
    """Run a lab controller that has two exporters, and refuses every lease by NoAccess."""
    refused = client_pb2.Lease(name="namespaces/lab/leases/x", client="namespaces/lab/clients/ci")
    words = "none of them are approved by any policy for your client"
    refused.conditions.add(type="Unsatisfiable", status="True", reason="NoAccess", message=words)
    names = (f"namespaces/lab/exporters/{name}" for name in ("b-1", "b-2"))
    exporters = [client_pb2.Exporter(name=name, online=True, status=2, labels={"a": "b"}) for name in names]
    with serve(trustme.CA()) as controller:
        controller.answers["GetLease"] = lambda *_: refused
        controller.answers["ListExporters"] = lambda *_: client_pb2.ListExportersResponse(exporters=exporters)
        yield controller


def said(controller: Controller, **wanted: Any) -> str:
    """Return what a refused run says."""
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca) as client:
        waiter = Waiter(client, Wanted(role="dut", wait=20.0, source="--jmp-selector", **wanted), Events(), ttl=120.0)
        with pytest.raises(LeaseUnsatisfiable) as caught:
            waiter.until_ready("x")
    return str(caught.value)


def test_exporters_that_match_are_forbidden(controller: Controller) -> None:
    """Where exporters match, the client may not use them; a policy may also forbid only the time that is asked for."""
    assert said(controller, selector="a=b").startswith(
        "no exporter can serve a=b (--jmp-selector): by the access policies of the lab, client ci may not use any of "
        "the 2 exporters that match, or not for as long as --jmp-ttl asks (02:00); the lab controller says: "
    )


def test_exporter_by_name_is_forbidden(controller: Controller) -> None:
    """So it is with one exporter."""
    assert "client ci may not use the exporter that matches, or not for" in said(controller, exporter="b-1")


def test_nothing_matches(controller: Controller) -> None:
    """Where nothing matches, the reason is the selector, not a policy."""
    text = said(controller, selector="a=c")
    assert text == "no exporter can serve a=c (--jmp-selector); did you mean a=b (2)?" or text.endswith("has a=b (2)")


def lease_all_but(controller: Controller, forbidden: str, code: grpc.StatusCode) -> None:
    """
    Refuse leases of an exporter by name, in the lease itself if the code is OK; find `b-2` for every selector.

    If `forbidden` is empty, that refuses those by selector.
    """
    known: dict[str, client_pb2.Lease] = {}

    def create(request: Any, context: grpc.ServicerContext) -> client_pb2.Lease:
        lease = client_pb2.Lease(client="namespaces/lab/clients/ci", name=f"{request.parent}/leases/{request.lease_id}")
        name = request.lease.exporter_name.rpartition("/")[2]
        if name == forbidden and code is not grpc.StatusCode.OK:
            context.abort(code, "forbidden by a policy")
        if name == forbidden:
            lease.conditions.add(type="Unsatisfiable", status="True", reason="NoAccess", message="not approved")
        else:
            lease.exporter = f"namespaces/lab/exporters/{name or 'b-2'}"
            lease.conditions.add(type="Ready", status="True", reason="Ready")
        known[lease.name] = lease
        return lease

    def get(request: Any, context: grpc.ServicerContext) -> client_pb2.Lease:
        if request.name not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        return known[request.name]

    def delete(request: Any, _: Any) -> Empty:
        del known[request.name]
        return Empty()

    controller.answers["UpdateLease"] = lambda request, _: known[request.lease.name]
    controller.answers.update(CreateLease=create, GetLease=get, DeleteLease=delete)


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED], ids=lambda code: code.name)
def test_choice_learns_from_a_refusal(controller: Controller, code: grpc.StatusCode) -> None:
    """An exporter that a policy refuses is requested by name once in a run; then the others are chosen."""
    exporters: Any = controller.answers["ListExporters"](None, None)  # type: ignore[arg-type]  # it needs no context
    exporters.exporters[1].labels["more"] = "yes"  # so the other one is chosen first: it is less capable
    controller.answers["ListExporters"] = lambda *_: exporters
    lease_all_but(controller, "b-1", code)
    choice = Choice()
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca) as client:
        policy = DriverPolicy(allow=(), unsafe=True, source="the test")
        connector = Connector(policy=policy, settings=DeviceSettings(), events=Events(), healths={})
        leases = Leases(client, events=Events(), ids=LeaseIds(), terms=Terms(), healths={}, connector=connector)
        try:
            for _ in range(3):
                member = Member(Wanted(role="dut", selector="a=b", wait=20.0), leases, choice)
                assert member.obtain(20.0)
                member.drop()
        finally:
            leases.close()
            connector.close()
    asked = [call.message.lease for call in controller.calls if call.method == "CreateLease"]
    names = [lease.exporter_name.rpartition("/")[2] or lease.selector for lease in asked]
    assert [name for name, _ in groupby(names)] == ["b-1", "a=b", "b-2"]  # a status is looked at more than once


def access_of(controller: Controller, pytester: pytest.Pytester) -> LabAccess:
    """Return the access to the lab of a new run, whose ini file names a client config of it."""
    ca = base64.b64encode(controller.ca).decode()
    config = {"metadata": {"namespace": "lab", "name": "ci"}, "endpoint": controller.endpoint, "token": TOKEN}
    (pytester.path / "ci.yaml").write_text(json.dumps(config | {"tls": {"ca": ca}, "drivers": {"unsafe": True}}))
    pytester.makeini(f"[pytest]\njmp_client = {pytester.path / 'ci.yaml'}\njmp_selector = a=b\n")
    config_of_run = pytester.parseconfigure()
    return lab_access_of(config_of_run, config_of_run.stash[SETTINGS])


def test_each_learns_from_a_refusal(controller: Controller) -> None:
    """A refused exporter that many tests name is requested once; the others get the same error at once."""
    lease_all_but(controller, "b-1", grpc.StatusCode.OK)
    told: list[str] = []

    class Told(Events):
        def on_refused(self, exporters: Collection[str]) -> None:
            told.extend(exporters)

    config = ClientConfig(endpoint=controller.endpoint, token=TOKEN, namespace="lab", name="ci", driver_unsafe=True)
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca) as client:
        source = ControllerSource(client, config, events=Told(), ids=LeaseIds(), terms=Terms(), healths={})
        with closing(source):
            for _ in range(3):
                with (
                    pytest.raises(LeaseUnsatisfiable, match="by the access policies of the lab"),
                    source.device(Wanted(role="dut", selector="a=b", exporter="b-1", wait=20.0)),
                ):
                    pass
    assert controller.methods().count("CreateLease") == 1
    assert told == ["b-1"]


def test_auto_workers_learn_from_refusals(controller: Controller, pytester: pytest.Pytester) -> None:
    """A later run counts no exporter that was refused in the last day, and says so; a broken cache is borne."""
    access = access_of(controller, pytester)
    config = pytester.parseconfigure()
    assert number_of_workers(config) == 2
    Refusals(config, config.stash[SETTINGS], access).add(["b-1", "of another selector"])
    config = pytester.parseconfigure()
    assert number_of_workers(config) == 1
    said = "not counted, because an access policy refused them, or the time that --jmp-ttl asks, in the last day: b-1 "
    said += "(--cache-clear counts them again)"
    assert config.stash[NOTE].endswith(f"dut 1; {said}")
    request = f"lab/ci at {controller.endpoint} for 02:00"
    spoiled: tuple[Any, ...] = ([], {request: []}, {request: {"b-1": "x", "b-2": 0.0}})
    for broken in spoiled:
        assert config.cache is not None
        config.cache.set("jumpstarter/refused", broken)
        assert number_of_workers(config) == 2


@pytest.mark.parametrize("wanted", ["one device", "two devices"])
def test_auto_workers_learn_of_equal_exporters(controller: Controller, pytester: pytest.Pytester, wanted: str) -> None:
    """
    If all exporters that match are equal, none is requested by name: a refusal of the selector refuses each of them.

    It does not count for another time to live, which the policy may allow.
    """
    access_of(controller, pytester)
    lease_all_but(controller, "", grpc.StatusCode.OK)
    pytester.makeconftest("from pytest_jumpstarter import device_fixture\nother = device_fixture(selector='a')")
    arguments = "dut" if wanted == "one device" else "dut, other"
    pytester.makepyfile(f"def test_it({arguments}): pass")
    refused = pytester.runpytest_subprocess()
    refused.assert_outcomes(errors=1)
    refused.stdout.fnmatch_lines(["*by the access policies of the lab, client ci may not use any of the 2 exporters*"])
    config = pytester.parseconfigure()
    assert number_of_workers(config) == 1
    assert "dut 0" in config.stash[NOTE]
    assert "in the last day: b-1, b-2 (" in config.stash[NOTE]
    other = pytester.parseconfigure("--jmp-ttl=1m")
    assert "not counted" not in (other.stash[NOTE] if number_of_workers(other) else "")


def test_workers_learn_from_each_other(controller: Controller, pytester: pytest.Pytester) -> None:
    """What one worker of xdist is refused, the others do not request either."""
    access = access_of(controller, pytester)
    config = pytester.parseconfigure()
    workers = WorkersController(config, config.stash[SETTINGS], Terminal(config), access)
    end = ControllerEnd(workers._answer)
    with closing(end):
        first, second = (WorkerEnd(end.address, name) for name in ("gw0", "gw1"))
        assert second.refused_exporters() == []
        first.tell("refused", "b-1")
        assert second.refused_exporters() == ["b-1"]
    for each in (first, second):
        each.tell("say", "")  # gets no answer, and closes the socket

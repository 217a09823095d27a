"""A lab controller and its exporters whose names, labels and messages are hostile: safe in every output."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
import yaml
from client.controller import TOKEN, Controller, serve
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from jumpstarter_protocol import client_pb2
from test_foreign_words import COMMANDS, CONTROLS, COUNT, MARKUP, SEED, SEQUENCES, faults, hostile, texts_of
from unpacked import dumped

from pytest_jumpstarter.collection.auto_workers import number_of_workers
from pytest_jumpstarter.lab.model import Status
from pytest_jumpstarter.workers import NOTE

DRAWN = [hostile(random.Random(SEED + number)) for number in range(min(COUNT // 30, 30))]
WORDS = "\n".join(["begin", *SEQUENCES, *COMMANDS, *MARKUP, "".join(CONTROLS[::7]), *DRAWN, "end"])
WORDS = WORDS.encode("utf-8", "replace").decode()  # protobuf carries no half of a surrogate pair
NAME = WORDS.replace("/", "")  # of labels and tags
EXPORTER = " ".join(NAME.split("\n")).replace("\r", "")
FILES = ["--jmp-report=run.json", "--jmp-report=run.html", "--jmp-report=run.md", "--junitxml=junit.xml"]


class Hostile:
    """Answers of a lab controller with one exporter, which matches each selector."""

    def __init__(self) -> None:
        self.looks = 0

    def get_exporter(self, request: Any, context: grpc.ServicerContext) -> client_pb2.Exporter:
        """Return the exporter, which is always ready."""
        exporter = client_pb2.Exporter(name=f"namespaces/lab/exporters/{EXPORTER}", online=True, status_message=WORDS)
        exporter.status = Status.LEASE_READY.value
        exporter.labels.update({"kind": "dut", NAME: NAME})
        return exporter

    def list_exporters(self, request: Any, context: grpc.ServicerContext) -> Message:
        """List the exporter."""
        return client_pb2.ListExportersResponse(exporters=[self.get_exporter(request, context)])

    def get_lease(self, request: Any, context: grpc.ServicerContext) -> Message:
        """Return a lease that is pending at first."""
        self.looks += 1
        lease = client_pb2.Lease(name=request.name, selector="kind=dut", client="namespaces/lab/clients/ci")
        lease.tags.update({NAME: NAME})
        state = "Pending" if self.looks < 3 else "Ready"
        lease.conditions.add(type=state, status="True", reason=NAME, message=WORDS)
        if state == "Ready":
            lease.exporter = f"namespaces/lab/exporters/{EXPORTER}"
            lease.effective_begin_time.GetCurrentTime()
        return lease

    def create_lease(self, request: Any, context: grpc.ServicerContext) -> Message:
        """Accept a lease."""
        lease: Message = request.lease
        request.lease.name = f"namespaces/lab/leases/{request.lease_id}"
        return lease

    def answer(self, controller: Controller) -> None:
        """Give the answers."""
        controller.answers |= {
            "GetExporter": self.get_exporter,
            "ListExporters": self.list_exporters,
            "CreateLease": self.create_lease,
            "GetLease": self.get_lease,
            "UpdateLease": lambda request, _: request.lease,
            "ListLeases": lambda *_: client_pb2.ListLeasesResponse(),
        }
        controller.refuse("DeleteLease", grpc.StatusCode.PERMISSION_DENIED, WORDS)


@pytest.fixture
def controller(pytester: pytest.Pytester) -> Iterator[Controller]:
    """Run a hostile lab controller, and write the ini file and the client config for it."""
    with serve(trustme.CA()) as controller:
        Hostile().answer(controller)
        config = {
            "apiVersion": "jumpstarter.dev/v1alpha1",
            "kind": "ClientConfig",
            "metadata": {"namespace": "lab", "name": "ci"},
            "endpoint": controller.endpoint,
            "token": TOKEN,
            "tls": {"ca": base64.b64encode(controller.ca).decode()},
            "drivers": {"allow": ["jumpstarter_driver_*"]},
        }
        (pytester.path / "client.yml").write_text(yaml.safe_dump(config))
        pytester.makeini("[pytest]\njmp_client = client.yml\njmp_selector = kind=dut\njmp_wait = 8s\njmp_ttl = 5s\n")
        yield controller


def outputs(folder: Path, result: pytest.RunResult) -> dict[str, str]:
    """Return what a run has shown and written."""
    found = {path.name: path.read_text() for path in folder.glob("*") if path.suffix in (".md", ".xml", ".txt")}
    found["terminal"] = "\n".join([*result.outlines, *result.errlines])
    if (folder / "history.db").exists():
        found["history.db"] = dumped(folder / "history.db")
    found["run.json"] = "\n".join(texts_of(json.loads((folder / "run.json").read_text())))
    page = (folder / "run.html").read_text()
    return found | {"run.html": re.sub("<style>.*?</style>|<script.*?</script>", "", page, flags=re.DOTALL)}


@pytest.mark.parametrize("workers", [(), ("-n2", "-p", "no:rerunfailures")], ids=["", "xdist"])
def test_no_output_has_its_words(pytester: pytest.Pytester, controller: Controller, workers: tuple[str, ...]) -> None:
    """Names, labels, reasons and messages are safe while a run waits, in its device errors, and as a release fails."""
    pytester.makepyfile("def test_one(dut): pass\ndef test_two(dut): pass")
    more = ["--jmp-history=history.db", "--log-file=log.txt", "--log-level=DEBUG", "-rA", "--jmp-artifacts=out"]
    result = pytester.runpytest_subprocess(*FILES, *more, *workers)
    found = outputs(pytester.path, result)
    assert {name: faults(text)[:5] for name, text in found.items() if faults(text)} == {}
    assert result.ret == 8, found["terminal"]
    for name in ("terminal", "run.json", "run.md", "run.html", "junit.xml"):
        assert "begin" in found[name], name


def test_no_output_of_a_check_has_its_words(pytester: pytest.Pytester, controller: Controller) -> None:
    """`--jmp-check` and `-n auto` show names and labels of exporters safely."""
    pytester.makepyfile("import pytest\n@pytest.mark.jumpstarter(labels='a=b')\ndef test_one(dut): pass")
    result = pytester.runpytest_subprocess(*FILES, "--jmp-check", "--jmp-selector=board=none")
    found = outputs(pytester.path, result)
    assert {name: faults(text)[:5] for name, text in found.items() if faults(text)} == {}
    assert result.ret == 1


ABSURD = (2**62, -(2**62), -1, 2**63 - 1)
"""Seconds of times and durations that no lease can have."""


def with_absurd_leases(controller: Controller) -> None:
    """Answer with a board for each absurd number, which somebody has leased, one that `bob` has, and a free one."""
    leases = []
    for number, seconds in enumerate(ABSURD):
        lease = client_pb2.Lease(name=f"namespaces/lab/leases/l-{number}", client="namespaces/lab/clients/eve")
        for field in ("begin_time", "end_time", "effective_begin_time", "duration", "effective_duration"):
            getattr(lease, field).seconds = seconds
        leases.append(lease)
    leases.append(client_pb2.Lease(name="namespaces/lab/leases/l-bob", client="namespaces/lab/clients/bob"))
    exporters = []
    for number in range(len(leases) + 1):
        name = f"namespaces/lab/exporters/b-{number}"
        exporters.append(client_pb2.Exporter(name=name, online=True, labels={"kind": "dut"}))  # without a status
        if number < len(leases):
            leases[number].exporter = name
            leases[number].conditions.add(type="Ready", status="True", reason="Ready")
    controller.answers["ListExporters"] = lambda *_: client_pb2.ListExportersResponse(exporters=exporters)
    controller.answers["ListLeases"] = lambda *_: client_pb2.ListLeasesResponse(leases=leases)


def test_absurd_leases_of_others(pytester: pytest.Pytester, controller: Controller) -> None:
    """Impossible times and durations of somebody else's lease end neither a check nor `-n auto`; all are counted."""
    with_absurd_leases(controller)
    pytester.makepyfile("def test_one(dut): pass")
    checked = pytester.runpytest_subprocess("--jmp-check")
    assert checked.ret == 0, checked.stdout.str()
    checked.stdout.fnmatch_lines(["*6 exporters; two calls took*", "*dut*kind=dut*6*6*1*eve (4), bob*"])
    config = pytester.parseconfigure()
    assert number_of_workers(config) == 1
    assert config.stash[NOTE] == "jumpstarter: -n auto is 1; free devices: dut 1"


def test_absurd_leases_in_a_queue(pytester: pytest.Pytester, controller: Controller) -> None:
    """A run that waits tells whose leases it waits for, whatever their times are."""
    with_absurd_leases(controller)
    pytester.makepyfile("def test_one(dut): pass")
    pending = client_pb2.Lease(client="namespaces/lab/clients/ci", selector="kind=dut")
    pending.conditions.add(type="Pending", status="True", reason="NotAvailable", message="all are leased")

    def get(request: Any, context: grpc.ServicerContext) -> Message:
        pending.name = request.name
        return pending

    controller.answers["GetLease"] = get

    def delete(request: Any, context: grpc.ServicerContext) -> Message:
        pending.conditions.add(type="Ready", status="False", reason="Released")
        return Empty()

    controller.answers["DeleteLease"] = delete
    result = pytester.runpytest_subprocess("--jmp-wait=3s")
    assert result.ret == 8
    result.stdout.fnmatch_lines(["*waiting * for kind=dut: 6 match, 5 leased (by eve, bob)*"])
    assert "INTERNALERROR" not in result.stdout.str()

"""Asking a lab: each request has a label, and gets an answer, `CODE | text` or `OK | JSON`."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

from .peers import Metadata, Peer, wait_for

LAB = "namespaces/lab"
RUN = uuid.uuid4().hex[:8]

_REPLACED = (  # what differs from run to run
    (RUN, "RUN"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", r"UUIDv\1"),
    (r"d-RUN-\d+", "d-RUN-N"),
    (r"20\d\d-\d\d-\d\dT[\d:.]+Z|20\d\d-\d\d-\d\d \d\d:\d\d:\d\d( \+0000)? UTC", "TIME"),
    (r'"seconds": "?\d{10}"?', '"seconds": S'),
    (r'"effectiveDuration": "[\d.]+s"', '"effectiveDuration": "Xs"'),
    (r"eyJ[\w.-]+", "JWT"),
    (r"(127\.0\.0\.1|localhost):\d+", "HOST:PORT"),
    (r"(\d+)\.(99\d+|00\d+)s", r"\1.Fs"),
)


def normalised(answer: str) -> str:
    """Return an answer without times, ids and addresses, which differ from run to run."""
    for pattern, text in _REPLACED:
        answer = re.sub(pattern, text, answer)
    return answer


class Asker:
    """
    Asks a lab, and notes the answers.

    Args:
        alice: The client that asks, unless told otherwise.
        bob: Another client, which owns no lease.
    """

    def __init__(self, alice: Peer, bob: Peer) -> None:
        self.answers: dict[str, str] = {}
        self._alice = alice
        self._bob = bob
        self._count = 0

    def _ask(self, label: str, method: Any, request: Any, metadata: Metadata | None = None) -> Any:
        """Ask one question; return the response, or None if it is an error."""
        try:
            response = method(request, metadata=self._alice.metadata if metadata is None else metadata, timeout=40)
        except grpc.RpcError as error:
            call: Any = error  # it is a grpc.Call as well
            self._note(label, f"{call.code().name} | {call.details()}")
            return None
        self._note(label, f"OK | {_as_json(response)}")
        return response

    def _note(self, label: str, answer: str) -> None:
        self.answers[label] = normalised(answer)

    def _as(self, peer: Peer | None = None, /, **changes: str | None) -> Metadata:
        """Return the metadata of a client, with changes: None removes a key."""
        metadata: dict[str, str | None] = dict((peer or self._alice).metadata)
        metadata |= {key if key == "authorization" else f"jumpstarter-{key}": value for key, value in changes.items()}
        return [(key, value) for key, value in metadata.items() if value is not None]

    def _get_exporter(self, label: str, name: str, metadata: Metadata | None = None) -> None:
        self._ask(label, self._alice.clients.GetExporter, client_pb2.GetExporterRequest(name=name), metadata)

    def _new_id(self) -> str:
        self._count += 1
        return f"d-{RUN}-{self._count}"

    def _create(
        self,
        label: str,
        lease_id: str | None = None,
        *,
        parent: str = LAB,
        metadata: Metadata | None = None,
        **fields: Any,
    ) -> str:
        """Ask for a lease; return its name, or an empty text if there is none."""
        request = client_pb2.CreateLeaseRequest(
            parent=parent,
            lease_id=self._new_id() if lease_id is None else lease_id,
            lease=client_pb2.Lease(**fields),
        )
        response = self._ask(label, self._alice.clients.CreateLease, request, metadata)
        return response.name if response is not None else ""

    def _wait(self, name: str, holds: Callable[[client_pb2.Lease], object]) -> None:
        wait_for(lambda: holds(self._alice.lease(name)), f"a change of {name}")

    def _end(self, name: str) -> None:
        """Release a lease unless it has ended, and wait until it has."""
        with suppress(grpc.RpcError):
            self._alice.delete(name)
        self._wait(name, is_ended)

    def _ask_about(self, label: str, lease: str) -> None:
        self._ask(label, self._alice.clients.GetLease, client_pb2.GetLeaseRequest(name=lease))

    def _dial(self, label: str, lease: str, metadata: Metadata | None = None) -> None:
        request = jumpstarter_pb2.DialRequest(lease_name=lease.rpartition("/")[2])
        self._ask(label, self._alice.controller.Dial, request, metadata)

    def _update(self, label: str, lease: str, metadata: Metadata | None = None, **fields: Any) -> None:
        request = client_pb2.UpdateLeaseRequest(lease=client_pb2.Lease(name=lease, **fields))
        self._ask(label, self._alice.clients.UpdateLease, request, metadata)

    def _delete(self, label: str, lease: str, metadata: Metadata | None = None) -> None:
        self._ask(label, self._alice.clients.DeleteLease, client_pb2.DeleteLeaseRequest(name=lease), metadata)

    def _release(self, label: str, lease: str, metadata: Metadata | None = None) -> None:
        request = jumpstarter_pb2.ReleaseLeaseRequest(name=lease.rpartition("/")[2])
        self._ask(label, self._alice.controller.ReleaseLease, request, metadata)

    def _wait_free(self, exporter: str) -> None:
        wait_for(lambda: self._alice.exporter(exporter).status == 2, f"{exporter} to be free")  # AVAILABLE

    def _wait_listening(self, lease: str) -> None:
        """Wait until the exporter of a lease listens to dials."""

        def is_listening() -> bool:
            try:
                self._alice.dial(lease.rpartition("/")[2], timeout=40)
            except grpc.RpcError:
                return False
            return True

        wait_for(is_listening, f"a dial of {lease}")


def at(offset: float) -> Timestamp:
    """Return the time `offset` seconds from now, with its fraction of a second."""
    moment = Timestamp()
    moment.FromMicroseconds(int((time.time() + offset) * 1e6))
    return moment


def is_ended(lease: client_pb2.Lease) -> bool:
    """Return whether a lease has ended."""
    kinds = {condition.type: condition.status for condition in lease.conditions}
    return kinds.get("Ready") == "False" or "Unsatisfiable" in kinds


def is_ready(lease: client_pb2.Lease) -> bool:
    """Return whether a lease has its exporter."""
    return any((condition.type, condition.status) == ("Ready", "True") for condition in lease.conditions)


def _as_json(message: Message) -> str:
    return json.dumps(json_format.MessageToDict(message), sort_keys=True)

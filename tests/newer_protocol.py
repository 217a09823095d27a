"""The messages of Jumpstarter's exporters and leases as a later release may have them: with more fields and values."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_MORE: dict[str, dict[str, tuple[int, str]]] = {
    "GetReportResponse": {"motd": (12, ""), "descriptor_set": (16, "")},
    "LogStreamResponse": {
        "driver_type": (15, ""),
        "operation": (16, ""),
        "timestamp": (17, ".google.protobuf.Timestamp"),
        "structured_fields": (18, ".google.protobuf.Struct"),
    },
    "StatusResponse": {"context": (15, ".google.protobuf.Struct")},
    "Lease": {"shared_with": (40, ""), "members": (41, ".google.protobuf.Struct")},
    "Exporter": {"exporter_set": (40, "")},
}


def newer() -> dict[str, Any]:
    """Return the classes of all messages by their names; they have more fields than those that are installed."""
    pool = descriptor_pool.DescriptorPool()
    names: list[str] = []

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
        if file.name in names:
            return
        names.append(file.name)
        if file.package.startswith("jumpstarter."):
            for message in proto.message_type:
                _extend(message)
            for needed in ("google/protobuf/struct.proto", "google/protobuf/timestamp.proto"):
                if needed not in proto.dependency:
                    proto.dependency.append(needed)
        pool.Add(proto)

    from google.protobuf import struct_pb2, timestamp_pb2

    for file in (struct_pb2.DESCRIPTOR, timestamp_pb2.DESCRIPTOR, client_pb2.DESCRIPTOR, jumpstarter_pb2.DESCRIPTOR):
        add(file)
    found = [pool.FindFileByName(name) for name in names]
    return {
        name: message_factory.GetMessageClass(message)
        for file in found
        if file.package.startswith("jumpstarter.")
        for name, message in file.message_types_by_name.items()
    }


def _extend(message: descriptor_pb2.DescriptorProto) -> None:
    taken = {field.name for field in message.field}
    for name, (number, kind) in _MORE.get(message.name, {}).items():
        if name not in taken:  # an installed release may have it already
            field = message.field.add(name=name, number=number, type=_MESSAGE if kind else _STRING, label=1)
            if kind:
                field.type_name = kind

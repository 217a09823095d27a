"""
The methods of the services, with their HTTP form and their fields, read from the installed descriptors.

Source: google.api.http, google.api.field_behavior and google.api.resource_reference of jumpstarter.client.v1
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

from google.api import annotations_pb2, field_behavior_pb2, resource_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

CLIENT_SERVICE = client_pb2.DESCRIPTOR.services_by_name["ClientService"]
CONTROLLER_SERVICE = jumpstarter_pb2.DESCRIPTOR.services_by_name["ControllerService"]

# Methods and fields that the oldest supported stubs lack, so that an error can name the release that has them.
# Source: jumpstarter-protocol 0.8.1 and 0.9.0
SINCE: Mapping[str, str] = {
    "RotateToken": "0.9",
    "Lease.tags": "0.9",
    "Lease.allow_disabled": "0.9",
    "Lease.deprecated_labels": "0.9",
    "ListLeasesRequest.tag_filter": "0.9",
    "GetExporterRequest.show_hidden_labels": "0.9",
    "ListExportersRequest.show_hidden_labels": "0.9",
    "Exporter.enabled": "0.9",
    "Exporter.deprecated_labels": "0.9",
}

# The only resource that has no message, whose annotation would be its pattern.
_PATTERNS = {"jumpstarter.dev/Client": "namespaces/{namespace}/clients/{client}"}

_VARIABLE = re.compile(r"\{(?P<field>[\w.]+)=(?P<pattern>[^}]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a request; below the first level its name is a path, such as `lease.selector`."""

    name: str
    type: str
    """As in the proto: `string`, `Duration`, `map<string, string>`, `repeated Condition`."""
    required: bool
    output_only: bool
    immutable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a service."""

    name: str
    path: str
    """Its path in gRPC, `/package.Service/Method`."""
    http: tuple[str, str] | None
    """Verb and path template of its HTTP form; None if it has no HTTP form."""
    fields: tuple[Field, ...]
    is_available: bool = True
    """Whether the installed stubs have it."""

    def __str__(self) -> str:
        form = " ".join(self.http) if self.http else "gRPC only"
        if not self.is_available:
            return f"{self.name}  (needs jumpstarter-protocol {SINCE[self.name]})"
        lines = [f"{self.name}  {form}", *(f"    {_describe(field)}" for field in self.fields)]
        return "\n".join(lines)


class Methods(Mapping[str, Method]):
    """The methods of a service by name; printed as a table."""

    def __init__(self, methods: Iterator[Method]) -> None:
        self._methods = {method.name: method for method in methods}

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def __str__(self) -> str:
        return "\n".join(map(str, self.values()))

    def __repr__(self) -> str:
        return f"<Methods {', '.join(self)}>"


def _describe(field: Field) -> str:
    notes = {"required": field.required, "output only": field.output_only, "immutable": field.immutable}
    return f"{field.name:<28} {field.type:<22} {', '.join(note for note, holds in notes.items() if holds)}".rstrip()


@cache
def methods() -> Methods:
    """Return the methods of ClientService; those that the installed stubs lack are marked as not available."""
    return Methods(_methods())


def _methods() -> Iterator[Method]:
    yield from map(_method, CLIENT_SERVICE.methods)
    for name in SINCE:
        if "." not in name and name not in CLIENT_SERVICE.methods_by_name:
            path = f"/{CLIENT_SERVICE.full_name}/{name}"
            yield Method(name=name, path=path, http=None, fields=(), is_available=False)


@cache
def descriptors() -> dict[str, MethodDescriptor]:
    """Return the methods that can be called: all of ClientService, and Dial of ControllerService."""
    return {**CLIENT_SERVICE.methods_by_name, "Dial": CONTROLLER_SERVICE.methods_by_name["Dial"]}


def _method(descriptor: MethodDescriptor) -> Method:
    return Method(
        name=descriptor.name,
        path=grpc_path(descriptor),
        http=http_form(descriptor),
        fields=tuple(_fields(descriptor.input_type)),
    )


def _fields(message: Descriptor, *, prefix: str = "") -> Iterator[Field]:
    for field in message.fields:
        yield Field(
            name=prefix + field.name,
            type=type_name(field),
            required=behaves(field, field_behavior_pb2.REQUIRED),
            output_only=behaves(field, field_behavior_pb2.OUTPUT_ONLY),
            immutable=behaves(field, field_behavior_pb2.IMMUTABLE),
        )
        if field.message_type and not field.is_repeated and field.message_type.file.name == message.file.name:
            yield from _fields(field.message_type, prefix=f"{prefix}{field.name}.")


def grpc_path(descriptor: MethodDescriptor) -> str:
    """Return the path of a method in gRPC."""
    return f"/{descriptor.containing_service.full_name}/{descriptor.name}"


def http_form(descriptor: MethodDescriptor) -> tuple[str, str] | None:
    """Return verb and path template of the `google.api.http` annotation."""
    rule = descriptor.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return (verb.upper(), getattr(rule, verb)) if verb and verb != "custom" else None


def path_variables(template: str) -> dict[str, str]:
    """Return the fields in a path template with their patterns: `{"name": "namespaces/*/leases/*"}`."""
    return {match["field"]: match["pattern"] for match in _VARIABLE.finditer(template)}


def fill_path(template: str, values: Mapping[str, str]) -> str:
    """Return the path template with its variables replaced by percent-encoded values."""
    return _VARIABLE.sub(lambda match: quote(values[match["field"]], safe="/-._~"), template)


def behaves(field: FieldDescriptor, behavior: field_behavior_pb2.FieldBehavior.ValueType) -> bool:
    """Return whether a field is annotated with `behavior`."""
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def resource_pattern(field: FieldDescriptor) -> str | None:
    """Return the pattern of the resource name in a field, `namespaces/*/leases/*`; None if it is not one."""
    reference = field.GetOptions().Extensions[resource_pb2.resource_reference]
    if reference.type:
        return _pattern(reference.type)
    if reference.child_type:  # the field names the parent: the child's pattern without its last two segments
        return "/".join(_pattern(reference.child_type).split("/")[:-2])
    if behaves(field, field_behavior_pb2.IDENTIFIER):
        return _starred(container_of(field).GetOptions().Extensions[resource_pb2.resource].pattern[0])
    return None


@cache
def _pattern(resource: str) -> str:
    return _starred(_declared_patterns().get(resource) or _PATTERNS[resource])


@cache
def _declared_patterns() -> dict[str, str]:
    messages = client_pb2.DESCRIPTOR.message_types_by_name.values()
    options = [message.GetOptions().Extensions[resource_pb2.resource] for message in messages]
    return {option.type: option.pattern[0] for option in options if option.type}


def _starred(pattern: str) -> str:
    return re.sub(r"\{[^}]+\}", "*", pattern)


def has_field(message: str, field: str) -> bool:
    """Return whether the installed stubs have a field of a message of the service."""
    found = client_pb2.DESCRIPTOR.message_types_by_name.get(message)
    return found is not None and field in found.fields_by_name


def message_class(descriptor: Descriptor) -> type[Message]:
    """Return the class of a message."""
    return message_factory.GetMessageClass(descriptor)


def message_of(field: FieldDescriptor) -> Descriptor:
    """Return the type of a field that is a message."""
    assert field.message_type is not None
    return field.message_type


def container_of(field: FieldDescriptor) -> Descriptor:
    """Return the message type that has a field."""
    assert field.containing_type is not None
    return field.containing_type


def is_map(field: FieldDescriptor) -> bool:
    """Return whether a field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def type_name(field: FieldDescriptor) -> str:
    """Return the type of a field as in the proto, without the package of messages."""
    if is_map(field):
        entry = message_of(field).fields_by_name
        return f"map<{type_name(entry['key'])}, {type_name(entry['value'])}>"
    kind = field.message_type or field.enum_type
    name = kind.name if kind else _SCALARS[field.type]
    return f"repeated {name}" if field.is_repeated else name


_SCALARS = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}

"""
Checks a request against the description of the service.

The annotations of the proto say which fields are required, set only by the server, or fixed at creation, and which hold
resource names. Where the lab controller differs, it counts: each such case is a row of a table in this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from pytest_jumpstarter.client.v1.build import did_you_mean
from pytest_jumpstarter.client.v1.service import behaves, http_form, message_of, path_variables, resource_pattern
from pytest_jumpstarter.errors import RequestInvalid

REQUIRED = field_behavior_pb2.REQUIRED
OUTPUT_ONLY = field_behavior_pb2.OUTPUT_ONLY
IMMUTABLE = field_behavior_pb2.IMMUTABLE


@dataclass(frozen=True, slots=True)
class Exempt:
    """A field whose annotation the lab controller does not enforce."""

    method: str
    field: str
    behavior: field_behavior_pb2.FieldBehavior.ValueType
    instead: tuple[str, ...]
    """Fields of which one must be set instead; empty: there is no check."""
    source: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of the lab controller that is not in the annotations."""

    method: str
    field: str
    pattern: str | None
    """A regular expression for the whole text; not checked if the text is empty."""
    seconds: tuple[float, float] | None
    """The duration must be above the first, and at most the second."""
    wanted: str
    source: str


EXEMPTIONS = (
    Exempt(
        "CreateLease",
        "lease.selector",
        REQUIRED,
        ("lease.selector", "lease.exporter_name"),
        "controller_service CreateLease: one of selector or exporter_name is required",
    ),
    Exempt("UpdateLease", "lease.selector", REQUIRED, (), "ClientService UpdateLease reads only what may change"),
    Exempt("UpdateLease", "lease.client", OUTPUT_ONLY, (), "ClientService UpdateLease: setting it transfers the lease"),
)

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LONGEST = 9_223_372_036.0  # the longest time.Duration of Go, in which the lab controller is written: 292 years

BOUNDS = (
    Bound(
        "CreateLease",
        "lease_id",
        rf"(?=.{{1,253}}$){_SUBDOMAIN}",
        None,
        "lower-case letters, digits, '-' and '.', at most 253",
        "it becomes the name of a Kubernetes object (RFC 1123 subdomain)",
    ),
    Bound(
        "Dial",
        "lease_name",
        rf"(?=.{{1,253}}$){_SUBDOMAIN}",
        None,
        "the short name of a lease of the client's own namespace",
        "ControllerService Dial: the name of the Kubernetes object, without a namespace",
    ),
    Bound(
        "CreateLease", "lease.duration", None, (0.0, _LONGEST), "more than 0 seconds", "lease_helpers: must be positive"
    ),
    Bound(
        "UpdateLease", "lease.duration", None, (0.0, _LONGEST), "more than 0 seconds", "lease_helpers: must be positive"
    ),
)


def check(method: MethodDescriptor, message: Message) -> None:
    """
    Check one request; in an update with a mask, drop the fields that are not in the mask.

    Raises:
        RequestInvalid: The message names the method, the field and the allowed values.
    """
    form = http_form(method)
    verb, template = form or ("", "")
    _check_path(method, message, path_variables(template))
    _check_required(method, message)
    if verb == "PATCH":
        _keep_masked(method, message, template)
    for path, field, value in _set_fields(message):
        _check_writable(method, path, field, is_update=verb == "PATCH")
        _check_name(method, path, field, value)
        _check_bound(method, path, value)


def _check_path(method: MethodDescriptor, message: Message, variables: dict[str, str]) -> None:
    for path, pattern in variables.items():
        value = _text_at(message, path)
        if not value:
            raise RequestInvalid(f"{method.name}: {path} is required ({pattern})")
        _check_pattern(method, path, value, pattern)


def _check_required(method: MethodDescriptor, message: Message) -> None:
    for field in method.input_type.fields:
        if behaves(field, REQUIRED) and not _is_set(message, field):
            raise RequestInvalid(f"{method.name}: {field.name} is required")
        # Fields below this level are required only in the message of the resource that is created.
        if field.message_type is not None and behaves(field, REQUIRED):
            _check_required_in(method, message, field)


def _check_required_in(method: MethodDescriptor, message: Message, outer: FieldDescriptor) -> None:
    for field in message_of(outer).fields:
        path = f"{outer.name}.{field.name}"
        if not behaves(field, REQUIRED):
            continue
        exempt = _exemption(method, path, REQUIRED)
        if exempt is not None and not exempt.instead:
            continue
        choices = exempt.instead if exempt else (path,)
        if not any(_text_at(message, choice) for choice in choices):
            raise RequestInvalid(f"{method.name}: {' or '.join(choices)} is required")


def _check_writable(method: MethodDescriptor, path: str, field: FieldDescriptor, *, is_update: bool) -> None:
    if behaves(field, OUTPUT_ONLY) and _exemption(method, path, OUTPUT_ONLY) is None:
        raise RequestInvalid(f"{method.name}: {path} is set only by the lab controller; leave it out")
    if is_update and behaves(field, IMMUTABLE):
        raise RequestInvalid(f"{method.name}: {path} cannot change after creation; leave it out")


def _check_name(method: MethodDescriptor, path: str, field: FieldDescriptor, value: object) -> None:
    pattern = resource_pattern(field)
    if pattern is not None and isinstance(value, str):
        _check_pattern(method, path, value, pattern)


def _check_pattern(method: MethodDescriptor, path: str, value: str, pattern: str) -> None:
    """Compare a resource name with its pattern; `*` stands for one segment."""
    wanted, found = pattern.split("/"), value.split("/")
    fits = len(wanted) == len(found) and all(
        _is_segment(part) if star == "*" else part == star for star, part in zip(wanted, found, strict=True)
    )
    if not fits:
        raise RequestInvalid(f"{method.name}: {path} must look like {pattern}, not {value[:120]!r}")


def _is_segment(text: str) -> bool:
    return bool(text) and text not in (".", "..") and text.isprintable() and " " not in text


def _check_bound(method: MethodDescriptor, path: str, value: object) -> None:
    for bound in BOUNDS:
        if (bound.method, bound.field) != (method.name, path):
            continue
        if bound.pattern is not None and not re.fullmatch(bound.pattern, str(value)):
            raise RequestInvalid(f"{method.name}: {path} must be {bound.wanted}, not {str(value)[:120]!r}")
        if bound.seconds is not None and isinstance(value, Duration):
            low, high = bound.seconds
            seconds = value.seconds + value.nanos / 1e9
            if not low < seconds <= high:
                raise RequestInvalid(f"{method.name}: {path} is out of range: {seconds:g} s is not {bound.wanted}")


def _exemption(
    method: MethodDescriptor, path: str, behavior: field_behavior_pb2.FieldBehavior.ValueType
) -> Exempt | None:
    wanted = (method.name, path, behavior)
    return next((row for row in EXEMPTIONS if (row.method, row.field, row.behavior) == wanted), None)


def _keep_masked(method: MethodDescriptor, message: Any, template: str) -> None:
    """
    Drop the fields that are not in `update_mask`, and check those that are.

    The lab controller changes the fields that are set and ignores the mask, so the mask only takes effect here. For the
    same reason a mask cannot clear a field.
    Source: ClientService UpdateLease (client_service.go)
    """
    outer, name = next(iter(path_variables(template))).split(".")
    resource, masked = getattr(message, outer), list(message.update_mask.paths)
    if not masked:
        return
    known = resource.DESCRIPTOR.fields_by_name
    for path in masked:
        if path not in known:
            raise RequestInvalid(f"{method.name}: update_mask names {path!r}; {did_you_mean(path, known)}")
        if not _is_set(resource, known[path]):
            raise RequestInvalid(f"{method.name}: update_mask names {path}, which {outer} does not set")
    for field, _ in resource.ListFields():
        if field.name not in (name, *masked):
            resource.ClearField(field.name)


def _set_fields(message: Message, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor, object]]:
    """Yield the fields that are set, with their paths, including those inside the service's own messages."""
    for field, value in message.ListFields():
        yield prefix + field.name, field, value
        if isinstance(value, Message) and message_of(field).file.name == message.DESCRIPTOR.file.name:
            yield from _set_fields(value, f"{prefix}{field.name}.")


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def _text_at(message: Message, path: str) -> str:
    value: object = message
    for part in path.split("."):
        value = getattr(value, part)
    return str(value)

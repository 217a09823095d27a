"""Make a protobuf message from a mapping; an error names exactly the field that does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pytest_jumpstarter.client.v1.service import SINCE, container_of, is_map, message_class, message_of, type_name
from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.errors import RequestInvalid

_MAX_DURATION = 315_576_000_000  # seconds, about 10,000 years: the largest google.protobuf.Duration
_PYTHON_TYPES: Mapping[int, type] = {
    FieldDescriptor.CPPTYPE_STRING: str,
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_INT32: int,
    FieldDescriptor.CPPTYPE_INT64: int,
    FieldDescriptor.CPPTYPE_UINT32: int,
    FieldDescriptor.CPPTYPE_UINT64: int,
    FieldDescriptor.CPPTYPE_ENUM: int,
    FieldDescriptor.CPPTYPE_DOUBLE: float,
    FieldDescriptor.CPPTYPE_FLOAT: float,
}


def build(descriptor: Descriptor, values: Mapping[str, Any], *, path: str = "") -> Message:
    """
    Return a message with the fields in `values`; a field whose value is None is left out.

    A duration is seconds, text (`30m`) or a `timedelta`; a time is a `datetime` with a zone, or RFC 3339 text.

    Raises:
        RequestInvalid: A field does not exist or has the wrong type; the message names its whole path.
    """
    message = message_class(descriptor)()
    for name, value in values.items():
        field = _find(descriptor, name, path)
        if value is not None:
            _put(message, field, value, path + field.name)
    return message


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: the most similar known name, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _find(descriptor: Descriptor, name: str, path: str) -> FieldDescriptor:
    for field in descriptor.fields:
        if name in (field.name, field.json_name):
            return field
    later = SINCE.get(f"{descriptor.name}.{name}")
    if later:
        raise RequestInvalid(f"{path}{name} needs jumpstarter-protocol {later} or later; the one installed is older")
    known = (field.name for field in descriptor.fields)
    raise RequestInvalid(f"{descriptor.name} has no field {path}{name}; {did_you_mean(name, known)}")


def _put(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if is_map(field):
        _put_map(message, field, value, path)
    elif field.is_repeated:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise _wrong(path, field, value)
        getattr(message, field.name).extend(_item(field, item, f"{path}[{i}]") for i, item in enumerate(value))
    elif field.message_type is not None:
        # An empty message counts as set only after SetInParent.
        target = getattr(message, field.name)
        target.CopyFrom(_item(field, value, path))
        target.SetInParent()
    else:
        setattr(message, field.name, _item(field, value, path))


def _put_map(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(path, field, value)
    of = message_of(field).fields_by_name["value"]
    for key, item in value.items():
        if not isinstance(key, str):
            raise RequestInvalid(f"{path} must have text for keys, not {_show(key)}")
        getattr(message, field.name)[key] = _item(of, item, f"{path}[{key!r}]")


def _item(field: FieldDescriptor, value: Any, path: str) -> Any:
    """Return one value, converted to the type of the field."""
    if field.message_type is not None:
        return _message(field, value, path)
    wanted = _PYTHON_TYPES.get(field.cpp_type)
    if wanted is float and type(value) is int:
        value = float(value)
    # In Python a bool is an int, but True is not a page size.
    if wanted is None or not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise _wrong(path, field, value)
    try:
        setattr(message_class(container_of(field))(), field.name, value)
    except (ValueError, TypeError, UnicodeError) as error:  # out of range for the wire type, or not UTF-8
        raise RequestInvalid(f"{path} does not fit {type_name(field)}: {_show(value)}") from error
    return value


def _message(field: FieldDescriptor, value: Any, path: str) -> Message:
    wanted = message_class(message_of(field))
    if isinstance(value, wanted):
        return value
    special = _WELL_KNOWN.get(message_of(field).full_name)
    if special is not None:
        return special(value, field, path)
    if isinstance(value, Mapping):
        return build(message_of(field), value, path=f"{path}.")
    raise _wrong(path, field, value)


def _duration(value: Any, field: FieldDescriptor, path: str) -> Duration:
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except ValueError as error:
            raise RequestInvalid(f"{path}: {error}") from error
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path, field, value, hint="seconds, a text such as 30m, or a timedelta")
    if not abs(value) <= _MAX_DURATION:  # written so that NaN fails too
        raise RequestInvalid(f"{path} is out of range: {value} seconds")
    nanos = round(value * 1_000_000_000)
    sign = -1 if nanos < 0 else 1
    return Duration(seconds=sign * (abs(nanos) // 1_000_000_000), nanos=sign * (abs(nanos) % 1_000_000_000))


def _timestamp(value: Any, field: FieldDescriptor, path: str) -> Timestamp:
    stamp = Timestamp()
    if isinstance(value, str):
        try:
            stamp.FromJsonString(value)
        except ValueError as error:
            raise RequestInvalid(f"{path} is not an RFC 3339 time: {_show(value)}") from error
        return stamp
    if not isinstance(value, datetime):
        raise _wrong(path, field, value, hint="a datetime with a time zone, or RFC 3339 text")
    if value.tzinfo is None:
        raise RequestInvalid(f"{path} has no time zone: {value}; write for example datetime.now(UTC)")
    stamp.FromDatetime(value.astimezone(UTC))
    return stamp


def _mask(value: Any, field: FieldDescriptor, path: str) -> FieldMask:
    paths = value.split(",") if isinstance(value, str) else value
    if not isinstance(paths, list | tuple | set | frozenset) or not all(isinstance(item, str) for item in paths):
        raise _wrong(path, field, value, hint="a list of field names")
    return FieldMask(paths=paths)


_WELL_KNOWN = {
    Duration.DESCRIPTOR.full_name: _duration,
    Timestamp.DESCRIPTOR.full_name: _timestamp,
    FieldMask.DESCRIPTOR.full_name: _mask,
}


def _wrong(path: str, field: FieldDescriptor, value: object, *, hint: str = "") -> RequestInvalid:
    return RequestInvalid(f"{path} must be {hint or type_name(field)}, not {type(value).__name__} {_show(value)}")


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

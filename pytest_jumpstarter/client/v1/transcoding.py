"""
The HTTP form of a call: verb, URL and body.

Each field of the message goes to one place: into the path, if the path names it; into the body, if the rule's `body` is
the field or `*`; else into the query, by its path in the message, once for each value.

Source: google/api/http.proto of googleapis, "Rules for HTTP mapping"
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from pytest_jumpstarter.client.v1.service import fill_path, http_form, is_map, path_variables

_SCALARS = ("Duration", "FieldMask", "Timestamp")  # well-known messages whose JSON form is one text


class HttpForm(NamedTuple):
    """
    A call in HTTP.

    Attributes:
        verb: `GET`, `POST`, `PATCH` or `DELETE`.
        url: Path and query.
        body: The body, as JSON data; None if there is none.
    """

    verb: str
    url: str
    body: dict[str, Any] | None = None


def http_form_of(method: MethodDescriptor, message: Message) -> HttpForm | None:
    """Return the HTTP form of a call; None if the method has none."""
    form = http_form(method)
    if form is None:
        return None
    verb, template = form
    in_path = path_variables(template)
    in_body = method.GetOptions().Extensions[annotations_pb2.http].body
    path = fill_path(template, {name: str(_at(message, name)) for name in in_path})
    query = [] if in_body == "*" else list(_query(message, {*in_path, in_body}))
    url = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
    return HttpForm(verb, url, _body(message, in_body, in_path) if in_body else None)


def _body(message: Message, in_body: str, in_path: Collection[str]) -> dict[str, Any]:
    """Return the JSON form of the body, without what is in the path."""
    rest = type(message)()
    rest.CopyFrom(message)
    for name in in_path:
        parent, _, field = name.rpartition(".")
        _at(rest, parent).ClearField(field)
    body: dict[str, Any] = json_format.MessageToDict(rest if in_body == "*" else _at(rest, in_body))
    return body


def _query(message: Message, left_out: Collection[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of each parameter."""
    for field, value in message.ListFields():
        name = prefix + field.name
        if name in left_out or is_map(field):
            continue
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message) and each.DESCRIPTOR.name not in _SCALARS:
                yield from _query(each, left_out, f"{name}.")
            else:
                yield name, _text(message, field.name, each)


def _text(message: Message, name: str, value: Any) -> str:
    """Return the text of one value: what it is in JSON, without the quotes."""
    if isinstance(value, Message):
        return str(json.loads(json_format.MessageToJson(value)))
    alone = type(message)()
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(alone, name).append(value)
        (shown,) = next(iter(json_format.MessageToDict(alone).values()))
    else:
        setattr(alone, name, value)
        shown = next(iter(json_format.MessageToDict(alone).values()), value)
    return shown if isinstance(shown, str) else json.dumps(shown)


def _at(message: Message, path: str) -> Any:
    value: Any = message
    for part in filter(None, path.split(".")):
        value = getattr(value, part)
    return value

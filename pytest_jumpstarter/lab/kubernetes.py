"""
What Kubernetes, behind the production controller, says about names and labels, and how it looks for objects.

Source: answers of a production controller (tests/data/controller-0.9.0.json)
"""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Mapping
from typing import TypeVar

from pytest_jumpstarter.lab.refusal import Refusal

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)

_LONGEST = 63
_TOO_LONG = f"must be no more than {_LONGEST} characters"
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_BAD_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_BAD_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

_Object = TypeVar("_Object")


def label_value_faults(value: str) -> str:
    """Return what is wrong with the value of a label; empty if nothing is."""
    faults = [_TOO_LONG] if len(value) > _LONGEST else []
    if not _LABEL_VALUE.fullmatch(value):
        faults.append(_BAD_VALUE)
    return "; ".join(faults)


def label_key_faults(name: str) -> str:
    """Return what is wrong with the key of a label, without its prefix; empty if nothing is."""
    faults = [] if name else ["name part must be non-empty"]
    if len(name) > _LONGEST:
        faults.append(f"name part {_TOO_LONG}")
    if not name or not _LABEL_VALUE.fullmatch(name):
        faults.append(_BAD_NAME)
    return "; ".join(faults)


def find(objects: Mapping[str, _Object], resource: str, name: str) -> _Object:
    """Return the object `name` of a resource, such as `leases`; refuse a name that cannot be in a path."""
    if not name:
        raise Refusal("resource name may not be empty")
    if name in (".", ".."):
        raise Refusal(f"invalid resource name \"{name}\": [may not be '{name}']")
    if "%" in name:
        raise Refusal(f"invalid resource name \"{name}\": [may not contain '%']")
    if name not in objects:
        raise Refusal(f'{resource}.jumpstarter.dev "{name}" not found')
    return objects[name]


def new_lease_name() -> str:
    """Return a UUID of version 7, which starts with the time in milliseconds."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 7 << 76  # the version
    number = number & ~(0x3 << 62) | 2 << 62  # the variant
    return str(uuid.UUID(int=number))

"""What the texts of options mean: a parser for each kind of value, imported when the first value is parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.selector import Selector

SHORTEST_TTL = 5.0

Kind: TypeAlias = Literal[
    "text", "selector", "name", "address", "duration", "ttl", "count", "pattern", "path", "report"
]
"""What the value of an option is."""


def checked_selector(text: str) -> str:
    """Return `text` unchanged; raise a SelectorError if it is no label selector."""
    Selector.parse(text)
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the value is empty")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a valid name in a lab (lower-case letters, digits, '-' and '.')")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"(grpc://)?([^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", text):
        raise ValueError(f"{text!r} is not HOST:PORT, or grpc://HOST:PORT for plain text")
    return text


def _ttl(text: str) -> float:
    duration = parse_duration(text)
    if duration < SHORTEST_TTL:
        raise ValueError(f"{text!r} is too short: leases are extended after a third of this time, so use at least 5s")
    return duration


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _pattern(text: str) -> str:
    try:
        re.compile(_not_empty(text))
    except re.error as exc:
        raise ValueError(f"{text!r} is not a regular expression: {exc}") from None
    return text


def _path(text: str) -> Path:
    return Path(_not_empty(text))


def _report(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".json", ".html", ".md"):
        raise ValueError(f"{text!r} must end in .json, .html or .md")
    return path


PARSERS: Mapping[Kind, Callable[[str], Any]] = {
    "text": _not_empty,
    "selector": checked_selector,
    "name": _name,
    "address": _address,
    "duration": parse_duration,
    "ttl": _ttl,
    "count": _count,
    "pattern": _pattern,
    "path": _path,
    "report": _report,
}

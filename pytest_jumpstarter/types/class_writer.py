"""
The Python text of the classes of typed boards.

What exporters say is not trusted: a name that is no Python name becomes a comment, and never code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from keyword import iskeyword

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.drivers import DriverPlace
from pytest_jumpstarter.types.exporter_trees import ExporterTree

_RESERVED = ("Board", "TYPE_CHECKING", "Any")
_MEMBERS_OF_CLIENTS = ("call", "children", "close", "labels", "name", "stream", "uuid")
"""Members of every driver client of Jumpstarter, which hide a child of the same name."""
_COMPOSITE = "jumpstarter_driver_composite.client.CompositeClient"
_NO_OTHERS = "__getattr__: None  # type: ignore[assignment, misc, unused-ignore]  # it has no other children"


class ClassWriter:
    """Collects classes and the imports that they need, and returns the text of the module."""

    def __init__(self) -> None:
        self._names: dict[str, str] = dict.fromkeys(_RESERVED, "")
        self._imports: dict[str, str] = {}
        self._for_checkers: list[str] = []
        self._boards: list[str] = []

    def add(self, exporters: Sequence[ExporterTree], name: str = "") -> str:
        """
        Add the class of a kind of board; return its name.

        Args:
            exporters: All exporters of this kind; they have the same drivers.
            name: The name of the class; empty: made from the names of the exporters.
        """
        names = [each.exporter for each in exporters]
        name = self._free(*([name] if name else _class_names(names)))
        lines = self._members("", name, exporters[0].places)
        doc = f'"""{_quotable("The drivers of " + _joined(names))}."""'
        self._boards.append(_class(name, "Board", [doc, "", *lines] if lines else [doc]))
        return name

    def text(self) -> str:
        """Return the module."""
        imports = [f"from {path.rpartition('.')[0]} import {_imported(path, name)}" for path, name in self._sorted()]
        checked = ["    " + line if line else "" for line in "\n\n".join([*self._for_checkers, ""]).split("\n")[:-1]]
        body = [f"    {line}" for line in imports] + (["", *checked] if self._for_checkers else [])
        blocks = ["from __future__ import annotations\n"]
        if body:
            blocks += ["from typing import TYPE_CHECKING\n", "from pytest_jumpstarter import Board\n"]
            blocks.append("if TYPE_CHECKING:\n" + "\n".join(body).rstrip("\n") + "\n")
        else:
            blocks.append("from pytest_jumpstarter import Board\n")
        head = (
            '"""Typed boards, written by `python -m pytest_jumpstarter.types`; to change them, derive from them."""\n'
        )
        return "\n".join([head, *blocks, "", "\n\n".join(self._boards)])

    def _sorted(self) -> list[tuple[str, str]]:
        return sorted(self._imports.items())

    def _members(self, path: str, owner: str, places: Mapping[str, DriverPlace]) -> list[str]:
        """Return the annotations of the drivers in one driver, or at the root; add the classes of those with others."""
        parents = {place.parent for place in places.values()}
        lines = []
        for child, place in places.items():
            if place.parent != path:
                continue
            if reason := _objection(place.name, is_in_device=not path):
                lines.append(f"# {place.name!a}: {reason}; use drivers[{child!a}]")
            elif child in parents:
                lines.append(f"{place.name}: {self._add_composite(child, owner, places)}")
            else:
                lines.append(f"{place.name}: {self._client(place.class_path)}")
        return lines

    def _add_composite(self, path: str, owner: str, places: Mapping[str, DriverPlace]) -> str:
        """Add the class of a driver that holds others; it is for type checkers, because its package may be missing."""
        place = places[path]
        base = self._client(place.class_path)
        name = self._free(f"{owner}{_camel(place.name)}")
        lines = self._members(path, name, places)
        if place.class_path == _COMPOSITE:
            lines.append(_NO_OTHERS)
        self._for_checkers.append(_class(name, base, lines, is_ignored=base == "Any"))
        return name

    def _client(self, class_path: str) -> str:
        """Return the name of a client class in the module, and import it there."""
        if class_path in self._imports:
            return self._imports[class_path]
        parts = class_path.split(".")
        if len(parts) < 2 or not all(part.isidentifier() and not iskeyword(part) for part in parts):
            class_path, parts = "typing.Any", ["typing", "Any"]
            self._imports[class_path] = "Any"
            return "Any"
        self._imports[class_path] = self._free(parts[-1])
        return self._imports[class_path]

    def _free(self, *candidates: str) -> str:
        """Return the first name that is not used yet, or the last one with a number."""
        numbered = (f"{candidates[-1]}{number}" for number in range(2, len(self._names) + 3))
        name = next(each for each in (*candidates, *numbered) if each not in self._names)
        self._names[name] = name
        return name


def _class(name: str, base: str, lines: Sequence[str], *, is_ignored: bool = False) -> str:
    note = "  # type: ignore[misc]" if is_ignored else ""
    body = "\n".join(f"    {line}" if line else "" for line in lines)
    if all(line.startswith("#") for line in lines):
        body += "\n    ..."
    return f"class {name}({base}):{note}\n{body}\n"


def _imported(path: str, name: str) -> str:
    own = path.rpartition(".")[2]
    return own if own == name else f"{own} as {name}"


def _objection(name: str, *, is_in_device: bool) -> str:
    """Return why a driver cannot be an attribute; empty if it can."""
    if not name.isidentifier() or iskeyword(name) or name.startswith("_"):
        return "no name of an attribute"
    if is_in_device and hasattr(Device, name):
        return "a member of every device"
    return "a member of every client" if not is_in_device and name in _MEMBERS_OF_CLIENTS else ""


def _class_names(exporters: Sequence[str]) -> list[str]:
    """Return names for the class of these exporters: of what their names have in common, else of the first one."""
    words = [re.split(r"[-_.]", name) for name in exporters]
    common = [each[0] for each in takewhile(lambda same: len(set(same)) == 1, zip(*words, strict=False))]
    while common and common[-1].isdigit():
        common.pop()
    return [name for name in (_camel("-".join(common)), _camel(exporters[0])) if name] or ["Rig"]


def _camel(name: str) -> str:
    found = "".join(part[:1].upper() + part[1:] for part in re.findall(r"[A-Za-z0-9]+", name))
    return f"Board{found}" if found[:1].isdigit() else found


def _joined(names: Sequence[str]) -> str:
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _quotable(text: str) -> str:
    """Return text that may stand in a docstring."""
    return re.sub(r"[^\w .,/=-]", "?", text, flags=re.ASCII)

"""Hints on errors that a wrong call of a driver client or of this package raises: similar names, files that exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

_ROOTS = ("jumpstarter", "pytest_jumpstarter")
_OPENDAL_PATH = re.compile(r"service: fs\n\s*path: (.+)")
_QUOTED = re.compile(r"'(\w+)'")  # a client whose methods come from its config lists them in its error
_MOST = 20


def add_hint(error: BaseException) -> None:
    """Add a note to an error if it is known what was probably meant; pytest shows it below the error."""
    with suppress(Exception):  # of odd classes, of folders that cannot be listed or are gone: then there is no hint
        _add_hint(error)


def _add_hint(error: BaseException) -> None:
    if isinstance(error, AttributeError):
        hint = _on_attribute(error)
    elif isinstance(error, FileNotFoundError) or type(error).__module__.startswith("opendal"):
        hint = _on_file(error)
    else:
        hint = ""
    if hint and hint not in getattr(error, "__notes__", ()):
        error.add_note(hint)


def _on_attribute(error: AttributeError) -> str:
    """Return the methods that an object has, and which one is probably meant; empty if it is none of ours."""
    classes = type(error.obj).__mro__
    name = error.name or ""
    if error.obj is None or name.startswith("_") or not any(_is_ours(each.__module__) for each in classes):
        return ""
    names = sorted(_public(classes) - _of_all_clients(classes))
    near = get_close_matches(name, [*names, *_QUOTED.findall(str(error))], n=2)
    near = [each for each in near if each != name]
    parts = [f"did you mean {near[0]!r}?"] if near else []
    if name == "cycle":
        parts.append("this driver cannot cycle the power: call off(), wait, then call on()")
    if names and len(names) <= _MOST:
        parts.append(f"{type(error.obj).__name__} has {', '.join(names)}")
    return "; ".join(parts).replace("?; ", "? ")


def _public(classes: Sequence[type]) -> set[str]:
    return {name for each in classes for name in vars(each) if not name.startswith("_")}


def _of_all_clients(classes: Sequence[type]) -> set[str]:
    """Return the names that every driver client has: they are for other code than tests."""
    base = next((each for each in classes if each.__name__ == "DriverClient"), None)
    return _public(base.__mro__) | {"cli"} if base else set()


def _is_ours(module: str) -> bool:
    root = module.partition(".")[0]
    return root in _ROOTS or root.startswith("jumpstarter_")


def _on_file(error: BaseException) -> str:
    """Return that a file is missing on this machine, and which one is probably meant; empty if it is not known."""
    path = _path_of(error)
    if path is None or path.exists() or not path.name:
        return ""
    if not path.parent.is_dir():
        return f"on this machine there is no folder {path.parent}"
    near = get_close_matches(path.name, [each.name for each in path.parent.iterdir()], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"on this machine there is no file {path}{hint}"


def _path_of(error: BaseException) -> Path | None:
    if isinstance(error, FileNotFoundError):
        return Path(error.filename).absolute() if isinstance(error.filename, str) else None
    found = _OPENDAL_PATH.search(str(error))
    return Path("/", found[1].strip()) if found else None

"""
The file system as it is before tests run; a test may replace `open`, `os` and `pathlib`, by pyfakefs or by mocks.

This module must be imported before tests run: in modules that are imported meanwhile, pyfakefs replaces `os`.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal


class _Real:
    """The functions; mocks replace those that are attributes of modules."""

    open = staticmethod(os.open)
    write = staticmethod(os.write)
    close = staticmethod(os.close)
    mkdir = staticmethod(os.mkdir)
    unlink = staticmethod(os.unlink)
    is_folder = staticmethod(os.path.isdir)
    file = io.FileIO
    mkstemp = staticmethod(tempfile.mkstemp)
    folder = tempfile.gettempdir()


_UNCHANGED = nullcontext()


def real_files() -> AbstractContextManager[None]:
    """Pause the fake file system of a test, if there is one: its module `os` is then in place of ours."""
    fake: Any = getattr(os, "filesystem", None)
    return _UNCHANGED if fake is None else _paused(fake)


@contextmanager
def _paused(fake: Any) -> Iterator[None]:
    fake.pause()
    try:
        yield
    finally:
        fake.resume()


def write(path: Path, data: bytes | Iterable[bytes], *, mode: Literal["w", "a", "x"] = "w") -> None:
    """Write a file (`w`), add to it (`a`), or write one that does not exist yet (`x`)."""
    flags = {"w": os.O_TRUNC, "a": os.O_APPEND, "x": os.O_EXCL}[mode]
    number = _Real.open(str(path), flags | os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        for chunk in [data] if isinstance(data, bytes) else data:
            rest = memoryview(chunk)
            while rest:
                rest = rest[_Real.write(number, rest) :]
    finally:
        _Real.close(number)


def make_folder(path: Path, *, with_parents: bool = False) -> None:
    """
    Make a folder.

    Raises:
        FileExistsError: It exists; if `with_parents`, and is no folder.
    """
    try:
        _Real.mkdir(str(path))
    except FileNotFoundError:
        if not with_parents or path.parent == path:
            raise
        make_folder(path.parent, with_parents=True)
        make_folder(path, with_parents=True)
    except FileExistsError:
        if not with_parents or not _Real.is_folder(path):
            raise


def unnamed_file() -> io.FileIO:
    """Return a new file for writing and reading that has no name, and so vanishes with the process."""
    with suppress(OSError, AttributeError):  # not every file system or operating system has it
        return _Real.file(_Real.open(_Real.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+")
    number, name = _Real.mkstemp()
    _Real.unlink(name)
    return _Real.file(number, "r+")

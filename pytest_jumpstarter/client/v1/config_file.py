"""The file of a client config, whose tokens change: read and written by one process at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pytest_jumpstarter.client.v1.config_table import read_yaml
from pytest_jumpstarter.client.v1.oidc import Tokens
from pytest_jumpstarter.client.v1.secret import Secret, Token
from pytest_jumpstarter.errors import ClientConfigError
from pytest_jumpstarter.host import real_time

_LOCK_TIMEOUT = 15.0
_LOCK_PAUSE = 0.05


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold the lock of a config file, which needs no permission to write; after `_LOCK_TIMEOUT` seconds go on without.

    The lock is on the file itself. Whoever writes replaces the file, so that the lock of the old one is worth nothing.
    """
    end = real_time.monotonic() + _LOCK_TIMEOUT
    while True:
        with _opened(path) as file:
            if file is None or not _lock(file, end) or _is_at(path, file):
                yield
                return


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    try:
        file = path.open("rb")
    except OSError:
        yield None
        return
    with file:  # which also unlocks it
        yield file


def _lock(file: BinaryIO, end: float) -> bool:
    """Return whether the lock was acquired until `end`; some network file systems have none."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if real_time.monotonic() >= end:
                return False
            real_time.sleep(_LOCK_PAUSE)
        except OSError:
            return False


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return True  # it was removed: there is nothing to lock


def read_tokens(path: Path) -> Tokens | None:
    """Return the tokens that a file has now; None if it has no access token, or cannot be read."""
    try:
        fields = read_yaml(path, "ClientConfig")
    except ClientConfigError:
        return None
    token, refresh = fields.get("token"), fields.get("refresh_token")
    return Tokens(access=token, refresh=refresh or Token("")) if token else None


def is_writable(path: Path) -> bool:
    """Return whether this process may write a file; it may be protected although its folder allows to replace it."""
    return os.access(path, os.W_OK)


def write_tokens(path: Path, tokens: Tokens) -> bool:
    """Put new tokens into a file, and leave all else as it is; return False if it cannot be written."""
    try:
        return _replace(path.resolve(), Secret(_changed(path, tokens)))
    except (OSError, ClientConfigError, ValueError):
        return False


def _changed(path: Path, tokens: Tokens) -> str:
    """Return the text of a config with new tokens: with its comments, if its tokens are written in one piece."""
    import yaml

    fields, text = read_yaml(path, "ClientConfig"), Secret(path.read_text(encoding="utf-8"))
    plain = {"token": "".join(tokens.access), "refresh_token": "".join(tokens.refresh)}  # YAML has no subclass of str
    wanted, new = fields | plain, text
    for name, value in plain.items():
        if fields.get(name):
            new = Secret(new.replace(fields[name], value))
    with suppress(yaml.YAMLError):
        if yaml.safe_load(new) == wanted:
            return new
    return Secret(yaml.safe_dump(wanted, sort_keys=False))


def _replace(path: Path, text: str) -> bool:
    """Replace a file in one step; where its folder does not allow that, write into the file."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600, as Jumpstarter has it
    except OSError:
        return _overwrite(path, text)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            owner = path.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)  # such as that of a run as root
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if not is_writable(path):
            return False
        os.replace(name, path)
        return True
    except OSError:
        return _overwrite(path, text)  # such as a file that is mounted into a container
    finally:
        with suppress(OSError):
            os.unlink(name)


def _overwrite(path: Path, text: str) -> bool:
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
        file.truncate()
    return True

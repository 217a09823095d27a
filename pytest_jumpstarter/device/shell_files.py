"""Small files over the console of a board: base64 in lines, with their MD5 for comparison."""

from __future__ import annotations

import base64
import hashlib
import shlex
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import ConsoleGarbled

if TYPE_CHECKING:
    from pytest_jumpstarter.device.shell import Shell

LARGEST_BYTES = 1 << 20
"""The largest file that goes over a console."""

_PIECE = 512  # characters of base64 in one line
_SECONDS_PER_BYTE = 0.003  # of a file that is read: 9600 baud


def put(shell: Shell, content: bytes | str, path: str, mode: int | None) -> None:
    """Write a file on the board."""
    data = content if isinstance(content, bytes) else content.encode()
    _refuse_large(path, len(data))
    text = base64.b64encode(data).decode()
    target, coded = shlex.quote(path), shlex.quote(f"{path}.b64")
    shell.run(f": >{coded}")
    for position in range(0, len(text), _PIECE):
        shell.run(f"printf %s {text[position : position + _PIECE]} >>{coded}")
    shell.run(f"base64 -d <{coded} >{target} && rm {coded}")
    _compare(shell, path, data)
    if mode is not None:
        shell.run(f"chmod {mode:o} {target}")


def get(shell: Shell, path: str) -> bytes:
    """Read a file of the board."""
    source = shlex.quote(path)
    size = int(shell.run(f"wc -c <{source}").stdout)
    _refuse_large(path, size)
    text = shell.run(f"base64 <{source}", timeout=shell.timeout + size * _SECONDS_PER_BYTE).stdout
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as exc:
        raise ConsoleGarbled(f"{shell.name}: {path} did not arrive whole: {exc}") from exc
    _compare(shell, path, data)
    return data


def _compare(shell: Shell, path: str, data: bytes) -> None:
    expected = hashlib.md5(data, usedforsecurity=False).hexdigest()
    found = shell.run(f"md5sum <{shlex.quote(path)}").stdout.split()
    if found[:1] != [expected]:
        raise ConsoleGarbled(f"{shell.name}: {path} did not arrive whole: its MD5 is not the same on both sides")


def _refuse_large(path: str, size: int) -> None:
    if size > LARGEST_BYTES:
        raise ValueError(
            f"{path} has {size} bytes; over a console at most {LARGEST_BYTES} are copied. "
            "Use the board's storage driver, its network, or SshShell"
        )

"""
Makes the words of others safe to store and to show: no secrets, no control codes, no commands to CI systems.

Boards, drivers, exporters, lab controllers and the suite itself say these words. Each text takes three steps, in this
order: control codes go, so that none can hide a secret; secrets become `***`; commands are broken.

- `controls`: control codes of terminals, and commands to CI systems.
- `known`: secrets known by value, in all forms in which they are shown. `shapes`: text that looks like a secret.
- `structures`: data and objects, value by value, before they are serialised.

The time for each step grows with the length of the text, and no faster. Code that reads a token or passphrase passes it
to `learn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from pytest_jumpstarter.masking.controls import without_commands, without_controls
from pytest_jumpstarter.masking.known import SHORTEST, learn, learn_environment, longest, version, without_known
from pytest_jumpstarter.masking.shapes import without_shapes

__all__ = [
    "first_characters",
    "last_characters",
    "learn",
    "learn_environment",
    "longest",
    "mask",
    "mask_bytes",
    "masked_chunks",
    "safe",
    "version",
    "without_commands",
]

_SHORT = 200
"""Characters of a text whose result is kept: the names and values that all reports of a run repeat."""

_LONGEST_HELD = 1 << 16
_MARGIN = 256
_SPACE = re.compile(rb"\s")
_SCHEME = re.compile(rb"\S+[ \t]*\Z")
_LONGEST_SCHEME = 64


def safe(text: str) -> str:
    """Return text that may be stored and shown anywhere; for equal short texts the same object."""
    return _safe_and_kept(text, version()) if len(text) <= _SHORT else _safe(text)


def _safe(text: str) -> str:
    return without_commands(mask(without_controls(text)))


@lru_cache(maxsize=4096)
def _safe_and_kept(text: str, version: int) -> str:  # noqa: ARG001  (part of the key: a new secret changes the result)
    return _safe(text)


def mask(text: str) -> str:
    """Return text without secrets, including parts of one that Python or pytest has shortened by `...`."""
    if len(text) < SHORTEST:  # such as the dot of a passed test
        return text
    return without_shapes(without_known(text))


def last_characters(text: str, limit: int) -> str:
    """Return the end of a text, made safe; a secret in which it begins is masked whole."""
    if len(text) <= limit:
        return safe(text)
    return safe(text[-(limit + longest() + _MARGIN) :])[-limit:]


def first_characters(text: str, limit: int) -> str:
    """Return the start of a text, made safe; a secret in which it ends is masked whole."""
    return safe(text[: limit + longest() + _MARGIN])[:limit]


def mask_bytes(data: bytes | bytearray) -> bytes:
    """Return data without secrets; control codes stay, because the data may be played back in a terminal."""
    return _changed(data, mask)


def masked_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield data without secrets, including those that cross a chunk's end; no secret contains a line break."""
    held = bytearray()
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        held += chunk
        if end:
            end += len(held) - len(chunk)
        elif len(held) > _LONGEST_HELD:  # a line that may never end
            held[:] = _changed(held, without_known)
            end = _place_to_cut(held)
        if end:
            yield mask_bytes(held[:end])
            del held[:end]
    yield mask_bytes(held)


def _changed(data: bytes | bytearray, change: Callable[[str], str]) -> bytes:
    """Return data whose text was changed; bytes that are no UTF-8 stay as they are."""
    return change(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _place_to_cut(data: bytearray) -> int:
    """Return a place in the second half between two words, but not after `Bearer` or the like."""
    half = len(data) // 2
    space = _SPACE.search(data, half)
    place = space.start() if space else half
    before = _SCHEME.search(data, max(0, place - _LONGEST_SCHEME), place)
    return before.start() if before and before.start() else place

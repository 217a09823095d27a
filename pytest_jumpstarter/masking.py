"""
Masks secrets in all output: known secrets, and text that looks like a secret, become `***`.

Code that reads a token or passphrase passes it to `learn`. Everything that is printed or written goes through `mask`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MASK = "***"
_SHORTEST = 4  # characters of a value that is masked; a shorter one would match too many words
_SHORTEST_PART = 8
_VARIABLES = ("JMP_TOKEN", "JMP_REFRESH_TOKEN", "JMP_GRPC_PASSPHRASE")
_LONGEST_HELD = 1 << 16
_SHAPES = "|".join(
    (
        r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*",  # a JSON web token
        r"(?<=[Bb]earer )[\w.~+/=-]{8,}",
        r"(?<=://)[^\s/@:\"'<>]*:[^\s/@\"'<>]+(?=@)",  # user and password in a URL
    )
)
_SHAPED, _SHAPED_BYTES = re.compile(_SHAPES, re.ASCII), re.compile(_SHAPES.encode())
# A match starts only at the start of a word, or the time for a long word would grow with the square of its length.
_CUT = re.compile(r"(?<=\.\.\.)[^\s'\"\\]{6,}|(?<![^\s'\"\\.])[^\s'\"\\.]{6,}+(?=\.\.\.)")

_known: list[str] = []  # the longest first; not a regular expression, because a run may have thousands
_lock = threading.Lock()


def learn(secret: str | None) -> None:
    """Mask a value from now on, and also the secret parts of a JSON web token."""
    if not secret or len(secret) < _SHORTEST or secret in _known:
        return
    parts = secret.split(".")[1:] if secret.count(".") == 2 else []
    with _lock:
        found = {*_known, secret, *(part for part in parts if len(part) >= _SHORTEST_PART)}
        _known[:] = sorted(found, key=len, reverse=True)


def learn_environment(environ: Mapping[str, str]) -> None:
    """Mask the values of Jumpstarter's variables that contain secrets."""
    for name, value in environ.items():
        if name.upper() in _VARIABLES:
            learn(value)


def mask(text: str) -> str:
    """Return text without secrets, including parts of one that Python or pytest has shortened by `...`."""
    for secret in tuple(_known):
        text = text.replace(secret, MASK)
    text = _SHAPED.sub(MASK, text)
    return _CUT.sub(_mask_rest, text) if "..." in text else text


def _mask_rest(found: re.Match[str]) -> str:
    rest = found[0]
    return MASK if any(known.startswith(rest) or known.endswith(rest) for known in tuple(_known)) else rest


def mask_bytes(data: bytes) -> bytes:
    """Return data without secrets."""
    return _SHAPED_BYTES.sub(MASK.encode(), _without_known(data))


def _without_known(data: bytes) -> bytes:
    for secret in tuple(_known):
        data = data.replace(secret.encode("utf-8", "surrogateescape"), MASK.encode())
    return data


def masked_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield data without secrets, including those that cross a chunk's end; no secret contains a line break."""
    held = b""
    for chunk in chunks:
        held += chunk
        end = held.rfind(b"\n") + 1
        if not end and len(held) > _LONGEST_HELD:
            held = _without_known(held)  # before the cut, which may divide a secret
            end = len(held) - _LONGEST_HELD // 2
        yield mask_bytes(held[:end])
        held = held[end:]
    yield mask_bytes(held)


def masked(value: Any, *, inside: str = "") -> Any:
    """
    Return plain data without secrets.

    Args:
        value: Text, or lists, tuples and dicts of text.
        inside: Prefix of module names: objects of such modules are changed in place, attribute by attribute.
    """
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {masked(key, inside=inside): masked(each, inside=inside) for key, each in value.items()}
    if isinstance(value, list | tuple):
        found = [masked(each, inside=inside) for each in value]
        return found if isinstance(value, list) else tuple(found)
    if inside and type(value).__module__.startswith(inside) and hasattr(value, "__dict__"):
        for name, each in vars(value).items():
            object.__setattr__(value, name, masked(each, inside=inside))
    return value

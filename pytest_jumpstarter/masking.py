"""
No secret in any output: what is known to be one, and what looks like one, is shown as `***`.

Whoever gets hold of a token or passphrase tells it here by `learn`; whatever is printed or written goes through `mask`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

MASK = "***"
_SHORTEST = 4  # characters of a value that is masked wherever it stands; a shorter one would stand everywhere
_SHORTEST_PART = 8
_VARIABLES = ("JMP_TOKEN", "JMP_REFRESH_TOKEN", "JMP_GRPC_PASSPHRASE")
_LONGEST_HELD = 1 << 16
_SHAPES = (
    r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*",  # a JSON web token
    r"(?<=[Bb]earer )[\w.~+/=-]{8,}",
    r"(?<=://)[^\s/@:\"'<>]*:[^\s/@\"'<>]+(?=@)",  # user and password in a URL
)
_CUT = re.compile(r"(?<=\.\.\.)[^\s'\"\\]{6,}|[^\s'\"\\.]{6,}(?=\.\.\.)")

_known: set[str] = set()


def learn(secret: str | None) -> None:
    """Mask a value from now on, and the parts of a JSON web token that are secret alone."""
    if secret and len(secret) >= _SHORTEST and secret not in _known:
        _known.add(secret)
        if secret.count(".") == 2:
            _known.update(part for part in secret.split(".")[1:] if len(part) >= _SHORTEST_PART)
        _patterns.cache_clear()


def learn_environment(environ: Mapping[str, str]) -> None:
    """Mask the values of Jumpstarter's variables that hold secrets."""
    for name, value in environ.items():
        if name.upper() in _VARIABLES:
            learn(value)


def mask(text: str) -> str:
    """Return text without secrets, nor what is left of one where Python or pytest has cut a long value."""
    text = _patterns()[0].sub(MASK, text)
    return _CUT.sub(_mask_rest, text) if "..." in text else text


def _mask_rest(found: re.Match[str]) -> str:
    rest = found[0]
    return MASK if any(known.startswith(rest) or known.endswith(rest) for known in _known) else rest


def mask_bytes(data: bytes) -> bytes:
    """Return data without secrets."""
    return _patterns()[1].sub(MASK.encode(), data)


def masked_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield data without secrets, those that stand across two chunks included: each is in one line."""
    held = b""
    for chunk in chunks:
        held += chunk
        end = held.rfind(b"\n") + 1
        if not end and len(held) > _LONGEST_HELD:
            end = len(held) - _LONGEST_HELD // 2
        yield mask_bytes(held[:end])
        held = held[end:]
    yield mask_bytes(held)


def masked(value: Any, *, inside: str = "") -> Any:
    """
    Return plain data without secrets.

    Args:
        value: Text, or lists, tuples and tables of such.
        inside: Objects of modules whose names begin so are changed in place, attribute by attribute.
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


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[bytes]]:
    known = sorted(_known, key=len, reverse=True)
    text = "|".join([*map(re.escape, known), *_SHAPES])
    return re.compile(text, re.ASCII), re.compile(text.encode("utf-8", "surrogateescape"))

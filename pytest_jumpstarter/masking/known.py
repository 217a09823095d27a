"""Secrets known by value, in all forms in which they are shown."""

from __future__ import annotations

import os
import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Container, Iterator, Mapping

MASK = "***"
SHORTEST = 4
"""Characters of the shortest value that is masked; a shorter one would match too many words."""

_SHORTEST_PART = 8
_VARIABLES = ("JMP_TOKEN", "JMP_REFRESH_TOKEN", "JMP_GRPC_PASSPHRASE")
_FEW = 50  # forms; up to so many are searched one by one
_FEW_CHARACTERS = 1 << 17  # of all forms; for more, a table of all parts would be too large
_CUT = re.compile(r"\.{3,}")
_CUT_PART = 5  # characters of a secret next to `...`; fewer tell nothing


class Secrets:
    """
    The secrets of a process.

    Attributes:
        values: The secrets themselves. forms: All forms of all secrets, the longest first.
        version: Greater after each secret that was learned: what was masked before may have to be masked anew.
    """

    def __init__(self) -> None:
        self.forms: list[str] = []
        self.values: set[str] = set()
        self.version = 0
        self._by_end: dict[str, set[str]] = {}
        self._parts: Container[str] | None = None
        self._escaped: list[re.Pattern[str]] = []
        self._lock = threading.Lock()

    def learn(self, secret: str) -> None:
        """Add a secret, and the secret parts of a JSON web token."""
        if len(secret) < SHORTEST or secret in self.values:
            return
        parts = secret.split(".")[1:] if secret.count(".") == 2 else []
        with self._lock:
            self.values.add(secret)
            found = {*self.forms, *_forms(secret), *(part for part in parts if len(part) >= _SHORTEST_PART)}
            for form in found.difference(self.forms):
                self._by_end.setdefault(form[-SHORTEST:], set()).add(form)
            self.forms = sorted(found, key=len, reverse=True)
            self._parts = None
            if (pattern := _escaped(secret)) is not None:
                self._escaped.append(pattern)
            self.version += 1  # not earlier: until now the secret is not masked

    def remove(self, text: str) -> str:
        """Return text without secrets, including parts of one that was shortened by `...`."""
        if not self.forms:
            return text
        for form in self._candidates(text):
            text = text.replace(form, MASK)
        for pattern in tuple(self._escaped):
            text = pattern.sub(MASK, text)
        return self._without_parts(text) if "..." in text else text

    def _candidates(self, text: str) -> Collection[str]:
        """Return the forms that the text may contain; of many forms only those whose end it contains."""
        if len(self.forms) <= _FEW:
            return self.forms
        ends = {text[place : place + SHORTEST] for place in range(len(text) - SHORTEST + 1)}
        found = (form for end in ends & self._by_end.keys() for form in tuple(self._by_end[end]))
        return sorted(found, key=len, reverse=True)

    def _without_parts(self, text: str) -> str:
        """Return text without the start of a secret before `...`, and the end of one after it."""
        kept, position = [], 0
        for cut in _CUT.finditer(text):
            if cut.start() < position:
                continue
            start = cut.start() - self._starts_before(text, position, cut.start())
            stop = cut.end() + self._ends_after(text, cut.end())
            kept += [text[position:start], MASK * (start < cut.start()), cut[0], MASK * (stop > cut.end())]
            position = stop
        return "".join([*kept, text[position:]])

    def _all_parts(self) -> Container[str]:
        """Return what contains each part of a secret that may stand next to `...`."""
        if self._parts is None:
            joined = "\n".join(self.forms)
            few = len(joined) < _FEW_CHARACTERS
            self._parts = {joined[at : at + _CUT_PART] for at in range(len(joined))} if few else joined
        return self._parts

    def _starts_before(self, text: str, begin: int, end: int) -> int:
        """Return how many characters before `end` are the start of a secret."""
        part = text[max(begin, end - _CUT_PART) : end]
        if len(part) < _CUT_PART or part not in self._all_parts():
            return 0
        starts = (form[: place + _CUT_PART] for form in self.forms for place in _places(part, form))
        return max((len(start) for start in starts if text.endswith(start, begin, end)), default=0)

    def _ends_after(self, text: str, begin: int) -> int:
        """Return how many characters from `begin` on are the end of a secret."""
        part = text[begin : begin + _CUT_PART]
        if len(part) < _CUT_PART or part not in self._all_parts():
            return 0
        ends = (form[place:] for form in self.forms for place in _places(part, form))
        return max((len(end) for end in ends if text.startswith(end, begin)), default=0)


def _places(part: str, form: str) -> Iterator[int]:
    """Yield each place of a part in a form."""
    place = form.find(part)
    while place >= 0:
        yield place
        place = form.find(part, place + 1)


_secrets = Secrets()


def learn(secret: str | None) -> None:
    """Mask a value from now on, in all its forms, and also the secret parts of a JSON web token."""
    if secret:
        _secrets.learn(secret)


def learn_environment(environ: Mapping[str, str]) -> None:
    """Mask the values of Jumpstarter's variables that contain secrets."""
    for name, value in environ.items():
        if name.upper() in _VARIABLES:
            learn(value)


def without_known(text: str) -> str:
    """Return text without known secrets."""
    return _secrets.remove(text)


def version() -> int:
    """Return a number that is greater after each secret that was learned."""
    return _secrets.version


def longest() -> int:
    """Return the length of the longest form of a secret."""
    return len(_secrets.forms[0]) if _secrets.forms else 0


def _escaped(secret: str) -> re.Pattern[str] | None:
    """Return what matches a secret with quotes, backslashes or letters beyond ASCII, however often it was escaped."""
    if secret.isascii() and not set(secret) & set("\"'\\"):
        return None
    first = _escaped_character(secret[0], before=r"(?<!\\)")
    return re.compile(first + "".join(map(_escaped_character, secret[1:])))


def _escaped_character(character: str, before: str = "") -> str:
    """Return a pattern for a character with any number of backslashes; `before` begins at the first of them."""
    if character == "\\":
        return rf"{before}\\++"
    if character in "\"'":
        return rf"(?:{before}\\++)?+{character}"
    code = ord(character)
    if code < 128:
        return re.escape(character)
    return rf"(?:{character}|{before}\\++(?:x{code:02x}|u{code:04x}|U{code:08x}))"


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, quoted once or twice, as base64, and as hexadecimal digits."""
    once = set(_quoted(secret))
    yield secret
    yield from once
    if once != {secret}:
        for form in once:  # such as the repr of a text that contains JSON
            yield from _quoted(form)
    data = os.fsencode(secret)
    yield from (data.hex(), data.hex().upper(), *_base64(data))


def _quoted(text: str) -> Iterator[str]:
    """Yield a text quoted for Python, JSON, URLs, XML, CSV and shells."""
    import html
    import json
    import shlex
    from urllib.parse import quote, quote_plus

    data = os.fsencode(text)
    yield from (repr(text)[1:-1], repr(f"{text}'")[1:-2], repr(f"{text}'\"")[1:-4])  # each kind of quotation mark
    yield from (repr(data)[2:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    for url in (quote(data), quote(data, safe=""), quote_plus(data)):
        yield from (url, re.sub("%..", lambda found: found[0].lower(), url))
    escaped = html.escape(text)
    yield from (escaped, html.escape(text, quote=False), escaped.replace("&#x27;", "&#39;"))
    yield from (text.replace('"', '""'), shlex.quote(text).strip("'"))


def _base64(data: bytes) -> Iterator[str]:
    """Yield base64 of data: alone, and the characters that do not depend on other data before and after it."""
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(data).decode().rstrip("=")
        for before, start in enumerate((0, 2, 3)):
            encoded = encode(bytes(before) + data).decode().rstrip("=")
            stop = len(encoded) - bool((before + len(data)) % 3)
            if stop - start >= _SHORTEST_PART:
                yield encoded[start:stop]

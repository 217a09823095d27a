"""
Text that looks like a secret.

- A JSON web token.
- What follows `Bearer`, `Authorization: SCHEME`, or `Basic` if it is base64 of `USER:PASSWORD`.
- User and password in a URL, or the token in their place: `https://TOKEN@host`, `user:p@ss@host`.
- The value of a name such as `token` or `password`: `?token=…`, `password=…`.

A regular expression below either matches at once or stops at the end of its word; what is inside of a word is searched
from left to right. So the time does not grow faster than the length of the text.
"""

from __future__ import annotations

import re
from base64 import b64decode

from pytest_jumpstarter.masking.known import MASK

_WORD = re.compile(r"[\w.-]{14,}+", re.ASCII)
_TOKEN_START = re.compile(r"\beyJ[\w-]{6,}", re.ASCII)
_TOKEN_PART = 6

_AUTHORIZATION = re.compile(
    r"(\bauthorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?"
    r"(?:(?:basic|bearer|token|digest|negotiate|ntlm|apikey)[ \t]{1,4})?+)([^\s\"'\\]++)"
    r"|(\bbearer[ \t]{1,4})([\w.~+/=-]{8,}+)",
    re.ASCII | re.IGNORECASE,
)
_BASIC = re.compile(r"(?<=\bbasic )[\w+/-]{6,}+={0,2}", re.ASCII | re.IGNORECASE)

_WITHOUT_SPACE = re.compile(r"[^\s\"'<>]{4,}+")
_AUTHORITY = re.compile(r"[^/?#]*+")
_WITH_LOGIN_NAME = ("ssh", "sftp", "scp", "git")  # schemes where a name alone before the `@` is no secret

_ASSIGNED = re.compile(r"(?<![\w.-])([\w.-]++)=([\"']?)([^\s\"'&;,<>]++)", re.ASCII)
_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|api[_-]?key|credential|private[_-]?key|signature|(?:^|[_.-])(?:auth|pwd|sig)$",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z_][\w.]*+(?:[(\[{)\]}:*].*)?", re.ASCII | re.DOTALL)  # names and calls in a source line
_SHORTEST_VALUE = 8


def without_shapes(text: str) -> str:
    """Return text without what looks like a secret."""
    if "eyJ" in text:
        text = _WORD.sub(_without_tokens, text)
    if "://" in text:
        text = _WITHOUT_SPACE.sub(_without_logins, text)
    if "=" in text:
        text = _ASSIGNED.sub(_without_value, text)
    lower = text.lower()  # a search without case is slow
    if "authorization" in lower or "bearer" in lower:
        text = _AUTHORIZATION.sub(lambda found: f"{found[1] or found[3]}{MASK}", text)
    return _BASIC.sub(_without_password, text) if "basic " in lower else text


def _without_tokens(word: re.Match[str]) -> str:
    """Return a word without the JSON web tokens in it, each of three parts with dots between."""
    if "eyJ" not in word[0]:
        return word[0]
    parts, kept, place = word[0].split("."), [], 0
    while place < len(parts):
        is_long = place + 2 < len(parts) and len(parts[place + 1]) >= _TOKEN_PART
        start = _TOKEN_START.search(parts[place]) if is_long else None
        kept.append(parts[place][: start.start()] + MASK if start else parts[place])
        place += 3 if start else 1
    return ".".join(kept)


def _without_logins(word: re.Match[str]) -> str:
    """Return a word without what is before the `@` of each URL in it."""
    before, *urls = word[0].split("://")
    kept = [before]
    for url in urls:
        kept.append(_without_login(before, url))
        before = url
    return "://".join(kept)


def _without_login(before: str, url: str) -> str:
    """Return what follows the `://` of a URL without its user and password; `before` ends with its scheme."""
    authority = _AUTHORITY.match(url)[0]  # type: ignore[index]  # it matches always
    end = authority.rfind("@")
    if end < 0 and not (port := authority.partition(":")[2]).isdigit() and port and not authority.startswith("["):
        end = url.rfind("@")  # the password contains a slash
    login = url[: max(end, 0)]
    is_name = ":" not in login and before.lower().endswith(_WITH_LOGIN_NAME)
    return url if not login or is_name else f"{MASK}{url[end:]}"


def _without_value(found: re.Match[str]) -> str:
    """Return `NAME=VALUE` without the value, if the name is that of a secret."""
    name, quotation, value = found.groups()
    if not _SECRET_NAME.search(name):
        return found[0]
    is_in_url = found.string[max(0, found.start() - 1) : found.start()] in ("?", "&", ";")
    is_code = not quotation and _CODE.fullmatch(value)
    if is_in_url or (len(value) >= _SHORTEST_VALUE and not is_code):
        return f"{name}={quotation}{MASK}"
    return found[0]


def _without_password(found: re.Match[str]) -> str:
    """Return the mask for base64 of `USER:PASSWORD`, and other words as they are."""
    try:
        decoded = b64decode(f"{found[0].rstrip('=')}{'=' * (-len(found[0].rstrip('=')) % 4)}", altchars=b"-_")
        is_login = ":" in decoded.decode() and decoded.decode().isprintable()
    except ValueError:  # no base64, or no text in it
        return found[0]
    return MASK if is_login else found[0]

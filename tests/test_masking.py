"""What is a secret, and what is left of text without it."""

from __future__ import annotations

import secrets
import time

import pytest

from pytest_jumpstarter.client.v1.secret import Secret, Token
from pytest_jumpstarter.masking import known, learn, mask, mask_bytes, masked_chunks, safe
from pytest_jumpstarter.masking.structures import safe_data

KNOWN = f"known{secrets.token_hex(16)}"
JWT = f"eyJhbGciOi.{secrets.token_hex(12)}.{secrets.token_hex(12)}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{KNOWN}b", "a***b"),
        (f"Authorization: Bearer {secrets.token_hex(8)}", "Authorization: Bearer ***"),
        (f"see {JWT}, please", "see ***, please"),
        ("http://me:secret@proxy:1 and a@b.c", "http://***@proxy:1 and a@b.c"),
        (f"'...{KNOWN[-20:]}'", "'...***'"),
        (f"'{KNOWN[:20]}...'", "'***...'"),
        ("from eyJ to bearer of news at http://host:80/a@b", "from eyJ to bearer of news at http://host:80/a@b"),
        ('{"url": "http://host","more":"x@y"}', '{"url": "http://host","more":"x@y"}'),
    ],
    ids=["known", "bearer", "JWT", "URL", "end of known", "start of known", "innocent words", "innocent JSON"],
)
def test_mask(text: str, shown: str) -> None:
    """What is known to be secret and what looks so is masked, also where a long value was cut; nothing else is."""
    learn(KNOWN)
    assert mask(text) == shown


def test_a_token_is_known_from_its_birth() -> None:
    """A token and the secret parts of it are masked as soon as there is one; what only hides itself is not."""
    token = ".".join(secrets.token_hex(8) for _ in range(3))
    head, payload, signature = token.split(".")
    Token(token)
    Secret("the word namespace")
    learn("abc")
    text = f"{head} {payload} {signature} {token} the word namespace abc"
    assert mask(text) == f"{head} *** *** *** the word namespace abc"


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_chunks(size: int) -> None:
    """A secret that stands across chunks is masked, whatever their size."""
    learn(KNOWN)
    data = b"x" * 100 + KNOWN.encode() + b"\r\n\xff" + KNOWN.encode() + b"$ "
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    assert b"".join(masked_chunks(chunks)) == mask_bytes(data) == b"x" * 100 + b"***\r\n\xff***$ "


def test_a_line_too_long_to_be_held() -> None:
    """A secret that stands where a line without end is cut is masked."""
    learn(KNOWN)
    line = b"x" * (32 << 10) + KNOWN.encode() + b"y" * ((32 << 10) - len(KNOWN) // 2)
    assert KNOWN.encode() not in (found := b"".join(masked_chunks([line])))
    assert found.count(b"***") == 1


def test_much_text_and_many_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of many characters, and a token for each of many leases, hold up nobody for minutes."""
    monkeypatch.setattr(known, "_secrets", known.Secrets())
    start = time.monotonic()
    text = "... " + "A" * 200_000
    assert mask(text) == text
    for _ in range(300):
        learn(token := ".".join(secrets.token_hex(40) for _ in range(3)))
        assert mask(f"a console's line, and {token}") == "a console's line, and ***"
    assert time.monotonic() - start < 60


def test_data() -> None:
    """Lists, tuples and tables keep their form."""
    learn(KNOWN)
    assert safe_data([{"a": (KNOWN, 1)}, None]) == [{"a": ("***", 1)}, None]


def test_a_secret_learned_later() -> None:
    """Text that was safe before is masked as soon as a secret in it is learned, although results are kept."""
    text = "the password of the board is hunter-2-later"
    assert safe(text) == text
    learn("hunter-2-later")
    assert safe(text) == "the password of the board is ***"

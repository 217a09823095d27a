"""Tokens that expire on demand, and those of an identity provider, for tests."""

from __future__ import annotations

import ssl
from typing import Any

import jwt

from pytest_jumpstarter.lab.authority import Authority, TokenRejected
from pytest_jumpstarter.lab.weather import WATCHER

_EXPIRED = "oidc: verify token: oidc: token is expired (Token Expiry: a moment ago)"


class ExpiringAuthority(Authority):
    """Vouches for tokens until it is told that those of clients have run out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._good: set[str] = set()
        self._has_expired = False
        self._trusted: tuple[str, str, jwt.PyJWKClient] | None = None

    def issue(self, subject: str) -> tuple[str, float]:
        """Return a token, and its expiry unless it is told to expire before."""
        token, expiry = super().issue(subject)
        if subject.startswith("client:"):
            self._good.add(token)
        return token, expiry

    def verify(self, token: str) -> str:
        """Return the subject of a token that has not expired."""
        if self._trusted is not None and self._trusted[1] == _issuer(token):
            return self._verify_by_keys(token, *self._trusted)
        subject = super().verify(token)
        kind, _, name, *_ = subject.split(":")
        if self._has_expired and kind == "client" and name != WATCHER and token not in self._good:
            raise TokenRejected(_EXPIRED)
        return subject

    def trust(self, subject: str, issuer: str, keys: str, ca: str) -> None:
        """Accept tokens of an identity provider for one client from now on."""
        context = ssl.create_default_context(cafile=ca)
        self._trusted = subject, issuer, jwt.PyJWKClient(keys, ssl_context=context)

    def _verify_by_keys(self, token: str, subject: str, issuer: str, keys: jwt.PyJWKClient) -> str:
        try:
            key = keys.get_signing_key_from_jwt(token).key
            jwt.decode(token, key, algorithms=["ES256"], audience="jumpstarter-cli", issuer=issuer)
        except jwt.ExpiredSignatureError as error:
            raise TokenRejected(_EXPIRED) from error
        except jwt.PyJWTError as error:
            raise TokenRejected("failed to authenticate token") from error
        return subject

    def obey(self, word: str, subject: str, *more: str) -> str:
        """Carry out an order for one client: `token`, or `trust ISSUER KEYS CA`."""
        if word == "token":
            return self.issue(subject)[0]
        self.trust(subject, *more)
        return "trusted"

    def expire(self) -> str:
        """Make all tokens of clients that were issued so far expire."""
        self._good.clear()
        self._has_expired = True
        return "expired"


def _issuer(token: str) -> str:
    try:
        return str(jwt.decode(token, options={"verify_signature": False}).get("iss"))
    except jwt.InvalidTokenError:
        return ""

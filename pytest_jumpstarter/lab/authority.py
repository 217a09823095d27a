"""Certificates and tokens of the lab: a certificate authority that is created at start, and keys to sign tokens."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import jwt
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

TOKEN_LIFETIME = 365 * 86400.0
ROUTER_TOKEN_LIFETIME = 30 * 60.0

_ISSUER = "https://localhost:8085"
_AUDIENCE = "jumpstarter"
_ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
_ROUTER_ISSUER = "https://jumpstarter.dev/stream"
_ROUTER_AUDIENCE = "https://jumpstarter.dev/router"


class TokenRejected(Exception):
    """A token is not accepted; the text is that of the production controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """
    The keys and certificates of one lab: PEM, except `router`, which is a shared secret.

    Attributes:
        token: The key that signs the tokens of clients and exporters.
        router: The secret that signs the tokens of streams.
        ca: The certificate of the authority.
        chain: The certificate of the server, then that of the authority.
        server: The key of the server.
    """

    token: bytes
    router: bytes
    ca: bytes
    chain: bytes
    server: bytes

    @classmethod
    def make(cls) -> Self:
        """Return new keys; that of the authority is not kept, because it signs nothing else."""
        ca = trustme.CA(organization_name="pytest-jumpstarter", organization_unit_name="embedded lab")
        server = ca.issue_cert("localhost", "127.0.0.1", "::1")
        chain = b"".join(certificate.bytes() for certificate in (*server.cert_chain_pems, ca.cert_pem))
        return cls(
            token=_new_key(),
            router=secrets.token_bytes(32),
            ca=ca.cert_pem.bytes(),
            chain=chain,
            server=server.private_key_pem.bytes(),
        )


class Authority:
    """
    Certificates and tokens of one lab; all keys are only in memory.

    The certificate of the server is valid for `127.0.0.1`, `::1` and `localhost`. The server also sends that of the
    authority, so that a client that trusts on first use gets the root too.
    """

    def __init__(self, *, client_token_lifetime: float = TOKEN_LIFETIME, keys: Keys | None = None) -> None:
        self.keys = keys or Keys.make()
        self._client_token_lifetime = client_token_lifetime
        token_key = serialization.load_pem_private_key(self.keys.token, password=None)
        assert isinstance(token_key, ec.EllipticCurvePrivateKey)
        self._token_key = token_key

    @property
    def ca(self) -> str:
        """The certificate of the authority as in configs: PEM in base64."""
        return base64.b64encode(self.keys.ca).decode()

    def issue(self, subject: str) -> tuple[str, float]:
        """Return a token for `subject` (`client:NAMESPACE:NAME:UID` or `exporter:…`), and its expiry."""
        now = time.time()
        claims = {"iss": _ISSUER, "aud": [_AUDIENCE], "sub": subject, "iat": int(now), "jti": secrets.token_hex(8)}
        expiry = now + (self._client_token_lifetime if subject.startswith("client:") else TOKEN_LIFETIME)
        return jwt.encode({**claims, "exp": int(expiry)}, self._token_key, algorithm="ES256"), expiry

    def verify(self, token: str) -> str:
        """
        Return the subject of `token`.

        Raises:
            TokenRejected: The token is malformed, not ours, or has expired.
        """
        try:
            claims = jwt.decode(
                token,
                self._token_key.public_key(),
                algorithms=["ES256"],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                options={"verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRejected(_why_rejected(token)) from error
        return str(claims["sub"])

    def issue_router(self, stream_id: str) -> str:
        """Return a token with which both ends open one stream at the router."""
        now = int(time.time())
        claims = {"iss": _ROUTER_ISSUER, "aud": [_ROUTER_AUDIENCE], "sub": stream_id, "iat": now, "nbf": now}
        expiry = now + int(ROUTER_TOKEN_LIFETIME)
        return jwt.encode({**claims, "exp": expiry, "jti": secrets.token_hex(8)}, self.keys.router, algorithm="HS256")

    def verify_router(self, token: str) -> str:
        """
        Return the stream id of a router token.

        Raises:
            TokenRejected: The token is malformed, not ours, or has expired.
        """
        try:
            claims = jwt.decode(
                token,
                self.keys.router,
                algorithms=["HS256", "HS384", "HS512"],
                audience=_ROUTER_AUDIENCE,
                issuer=_ROUTER_ISSUER,
                options={"require": ["exp", "sub"], "verify_iat": False, "verify_nbf": False},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRejected("invalid jwt token") from error
        return str(claims["sub"])


def _why_rejected(token: str) -> str:
    """
    Return what the production controller says of a token that is not accepted.

    Source: the OIDC authenticator of Kubernetes: the order of its checks, and their texts
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False, "verify_exp": False, "verify_aud": False})
        algorithm = str(jwt.get_unverified_header(token).get("alg"))
    except jwt.InvalidTokenError:
        return "failed to authenticate token"
    audience = claims.get("aud", [])
    audience = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != _ISSUER:
        return "failed to authenticate token"
    if _AUDIENCE not in audience:
        reason = f'oidc: expected audience "{_AUDIENCE}" got {_quoted(audience)}'
    elif claims.get("exp", 0) <= time.time():
        reason = f"oidc: token is expired (Token Expiry: {_go_time(claims.get('exp', 0))})"
    elif algorithm not in _ALGORITHMS:
        reason = f'oidc: id token signed with unsupported algorithm, expected {_quoted(_ALGORITHMS)} got "{algorithm}"'
    else:
        reason = "failed to verify signature: failed to verify id token signature"
    return f"oidc: verify token: {reason}"


def _quoted(texts: Iterable[object]) -> str:
    """Write a list of strings as Go does."""
    return "[" + " ".join(f'"{text}"' for text in texts) + "]"


def _go_time(seconds: float) -> str:
    """Write a time as Go does."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""A small OpenID Connect provider over HTTPS, on loopback: discovery, keys, and a token endpoint that refreshes."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import jwt
import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import ec


class IdentityProvider:
    """
    A provider that accepts each refresh token once, and notes a second use.

    Attributes:
        lifetime: The seconds that the next access token is valid.
        refusal: The error with which every refresh is refused; empty if none is.
        status: The HTTP status of every answer, if it is not 200.
        asked: The form of each refresh.
        tokens: All access and refresh tokens that were handed out.
        reused: How often a refresh token came that was used before.
    """

    def __init__(self, folder: Path) -> None:
        authority, self._key = trustme.CA(), ec.generate_private_key(ec.SECP256R1())
        self.ca = folder / "provider-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.lifetime, self.refusal, self.status, self.reused = 3600.0, "", 200, 0
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self._good: set[str] = set()
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.provider = self  # type: ignore[attr-defined]  # the handler finds it there
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.issuer = f"https://localhost:{self.server.server_port}/realms/lab"

    def grant(self, lifetime: float | None = None) -> dict[str, str]:
        """Return new tokens."""
        end = int(time.time() + (self.lifetime if lifetime is None else lifetime))
        claims = {"iss": self.issuer, "aud": "jumpstarter-cli", "sub": "ci", "exp": end, "jti": secrets.token_hex(4)}
        access = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "1"})
        refresh = secrets.token_urlsafe(30)  # opaque, as those of Dex
        self._good.add(refresh)
        self.tokens += [access, refresh]
        return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer"}

    def log_in(self, config: Path, *, lifetime: float) -> None:
        """Write tokens into a client config, as `jmp login` does."""
        granted = self.grant(lifetime)
        new = {"token": granted["access_token"], "refresh_token": granted["refresh_token"]}
        config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | new))

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Accept and answer no refresh meanwhile."""
        with self._lock:
            yield

    def keys(self) -> dict[str, Any]:
        """Return the public key as a set of JSON web keys."""
        key = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [key | {"kid": "1", "alg": "ES256", "use": "sig"}]}

    def refresh(self, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Answer the token endpoint."""
        with self._lock:
            self.asked.append(form)
            if self.refusal:
                return 400, {"error": self.refusal, "error_description": "Session not active"}
            if form["refresh_token"] not in self._good:
                self.reused += 1
                return 400, {"error": "invalid_grant", "error_description": "Token is not active"}
            self._good.remove(form["refresh_token"])
            return 200, self.grant()


class _Handler(BaseHTTPRequestHandler):
    @property
    def _provider(self) -> IdentityProvider:
        return cast(IdentityProvider, self.server.provider)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        """Answer discovery and keys."""
        issuer = self._provider.issuer
        if self.path.endswith("/.well-known/openid-configuration"):
            self._answer(200, {"issuer": issuer, "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys"})
        else:
            self._answer(200, self._provider.keys())

    def do_POST(self) -> None:
        """Answer the token endpoint."""
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self._answer(*self._provider.refresh({name: values[0] for name, values in form.items()}))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status if self._provider.status == 200 else self._provider.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Say nothing."""


@contextmanager
def identity_provider(folder: Path) -> Iterator[IdentityProvider]:
    """Serve a provider; `ca` in it is what the environment variable SSL_CERT_FILE has to name."""
    provider = IdentityProvider(folder)
    thread = threading.Thread(target=provider.server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join(10)

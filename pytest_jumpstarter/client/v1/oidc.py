"""
Gets a new access token for a `refresh_token` from the identity provider that issued the old one.

Source: RFC 6749, section 6; OpenID Connect Discovery 1.0; `jmp auth refresh` (0.9.0) for client id, scope and trust
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.masking import safe

_CLIENT_ID = "jumpstarter-cli"
_SCOPE = "openid profile offline_access"
_PROVIDER_TIMEOUT = 5.0
_PASSING = ("temporarily_unavailable", "server_error", "slow_down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """An access token, and the token that gets the next one."""

    access: str
    refresh: str


class RefreshFailed(Exception):
    """
    There is no new token.

    Attributes:
        is_passing: Whether the provider could not be asked, so that trying again may help.
    """

    def __init__(self, reason: str, *, is_passing: bool = False) -> None:
        super().__init__(reason)
        self.is_passing = is_passing


def refresh(issuer: str, refresh_token: str) -> Tokens:
    """
    Return new tokens; if the provider sends no other refresh token, the old one stays in use.

    Raises:
        RefreshFailed: The provider refuses, or cannot be asked.
    """
    try:
        from authlib.integrations.base_client import OAuthError
        from authlib.integrations.requests_client import OAuth2Session
        from requests import HTTPError, RequestException
        from requests.exceptions import SSLError
    except ModuleNotFoundError as error:
        raise RefreshFailed(f"refreshing it needs {error.name}, which is not installed") from error
    try:
        with OAuth2Session(client_id=_CLIENT_ID, scope=_SCOPE) as session:
            # For each request, because requests prefers REQUESTS_CA_BUNDLE to what the session has.
            verify = os.environ.get("SSL_CERT_FILE") or True
            url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            found = session.get(url, withhold_token=True, verify=verify, timeout=_PROVIDER_TIMEOUT)
            found.raise_for_status()
            answer = session.fetch_token(
                found.json()["token_endpoint"],
                grant_type="refresh_token",
                refresh_token=refresh_token,
                verify=verify,
                timeout=_PROVIDER_TIMEOUT,
            )
        return _tokens(answer, refresh_token)
    except OAuthError as error:
        reason = f"{issuer} refuses the refresh_token ({_words(error)})"
        raise RefreshFailed(reason, is_passing=error.error in _PASSING) from None
    except SSLError as error:
        reason = f"the certificate of {issuer} is not trusted ({_words(error)}); name its CA in SSL_CERT_FILE"
        raise RefreshFailed(reason) from None
    except HTTPError as error:
        is_passing = error.response is None or error.response.status_code >= 500 or error.response.status_code == 429
        raise RefreshFailed(f"{issuer} does not refresh it ({_words(error)})", is_passing=is_passing) from None
    except RequestException as error:
        is_passing = not isinstance(error, ValueError)  # a bad URL, or an answer that is not JSON, is one
        raise RefreshFailed(f"{issuer} cannot be asked ({_words(error)})", is_passing=is_passing) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RefreshFailed(f"{issuer} does not answer as an identity provider ({type(error).__name__})") from error


def _tokens(answer: Any, old: str) -> Tokens:
    access, new = answer["access_token"], answer.get("refresh_token") or old
    if not all(isinstance(each, str) and each.isascii() and each.isprintable() and each for each in (access, new)):
        raise ValueError("no token")
    return Tokens(access=Token(access), refresh=Token(new))


def _words(error: Exception) -> str:
    """Return the start of what an error says, in one line."""
    return " ".join(safe(str(error)).split())[:200]

"""What a token says of itself: issuer, and when it was issued and expires. Its signature is not checked."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Any


def token_expiry(token: str) -> datetime | None:
    """
    Return when a token expires, in UTC; None if it does not say.

    Source: RFC 7519, claim `exp` of a JSON Web Token: seconds since 1970
    """
    return _time(token, "exp")


def token_issued(token: str) -> datetime | None:
    """
    Return when a token was issued, in UTC; None if it does not say.

    Source: RFC 7519, claim `iat` of a JSON Web Token: seconds since 1970
    """
    return _time(token, "iat")


def _time(token: str, claim: str) -> datetime | None:
    try:
        return datetime.fromtimestamp(_claims(token)[claim], tz=UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def token_issuer(token: str) -> str | None:
    """Return the web address of the identity provider that issued a token; None if it does not say."""
    issuer = _claims(token).get("iss")
    return issuer if isinstance(issuer, str) and issuer.startswith(("https://", "http://")) else None


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a JSON Web Token; {} if it is none."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}

"""The expiry of a token."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime


def token_expiry(token: str) -> datetime | None:
    """
    Return when a token expires, in UTC; None if it does not say. The signature is not checked.

    Source: RFC 7519, claim `exp` of a JSON Web Token: seconds since 1970
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(claims["exp"], tz=UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, binascii.Error):
        return None

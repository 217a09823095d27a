"""
What the error of a call tells: since when the call ran, and whether it was sent at all.

Only a break of the connection during the call can be to blame for its error.

The moment travels on the error itself, which a test may keep, wrap or raise again later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

_ATTRIBUTE = "jumpstarter_call_began"

# gRPC says so when there was no connection to send a call on; the socket is that of a tunnel of ours.
_NEVER_SENT = re.compile(r"failed to connect to all addresses; last error: .*unix:\S*/pj-\w+/device\b")


def was_never_sent(error: BaseException) -> bool:
    """Tell whether this is gRPC's error for a call that never left, since the exporter was out of reach."""
    details = getattr(error, "details", None)
    return callable(details) and _NEVER_SENT.match(str(details())) is not None


def mark_call(error: BaseException, began: float) -> None:
    """Note on an error when its call began, by `time.monotonic()`; the earliest counts."""
    began = min(began, call_began(error) or began)
    with suppress(AttributeError):  # of a class without room for it: the present state counts
        setattr(error, _ATTRIBUTE, began)


def call_began(error: BaseException) -> float | None:
    """Return when the call that raised the error began; None if no console or driver call raised it."""
    began = getattr(error, _ATTRIBUTE, None)
    return began if isinstance(began, float) else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, or what a group of errors holds."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error

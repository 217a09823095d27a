"""
The window of a call: when the call that raised an error began, and whether it was sent at all.

Only a break of the connection during the call can be the cause of its error. The start of the call is stored on the
error itself, because a test may keep the error, wrap it or raise it again later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

_ATTRIBUTE = "jumpstarter_call_began"

# The text of gRPC if there was no connection to send the call on; the socket is in a folder of `socket_end.new_folder`.
_NEVER_SENT = re.compile(r"failed to connect to all addresses; last error: .*unix:\S*/pj-\d+-\w+/device\b")


def was_never_sent(error: BaseException) -> bool:
    """Return whether this is gRPC's error for a call that was not sent because there was no connection."""
    details = getattr(error, "details", None)
    return callable(details) and _NEVER_SENT.match(str(details())) is not None


def was_answered(error: BaseException) -> bool:
    """Return whether this is a gRPC error that the exporter answered: the error of one of its drivers."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if not (callable(code) and callable(details)):
        return False
    return getattr(code(), "name", "") == "UNKNOWN" and not str(details()).startswith("Stream removed")


def mark_call(error: BaseException, began: float) -> None:
    """Store on an error when its call began, by `time.monotonic()`; the earliest time counts."""
    began = min(began, call_began(error) or began)
    with suppress(AttributeError):  # its class allows no new attributes: then only the present state counts
        setattr(error, _ATTRIBUTE, began)


def call_began(error: BaseException) -> float | None:
    """Return when the console or driver call that raised the error began; None if no such call raised it."""
    began = getattr(error, _ATTRIBUTE, None)
    return began if isinstance(began, float) else None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, or what a group of errors holds."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error

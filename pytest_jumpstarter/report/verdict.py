"""
Three verdicts, never mixed up: *test failure* (product), *device error* (lab), *configuration error* (user).

A device error is a known type of ours, or an exception of a known kind that the lab confirms: console and stream
errors and failed driver calls count only if lease, exporter or tunnel really is at fault. Assertions never count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import DeviceError, TransportError

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.health import Health

# By name, since none of these modules is imported for a verdict alone.
_SUSPICIOUS = {
    ("pexpect.exceptions", "EOF"),
    ("pexpect.exceptions", "TIMEOUT"),
    ("anyio", "BrokenResourceError"),
    ("anyio", "ClosedResourceError"),
    ("anyio", "EndOfStream"),
    ("jumpstarter.client.core", "DriverError"),
    ("jumpstarter.common.exceptions", "ConnectionError"),
    ("jumpstarter.common.exceptions", "ExporterUnreachableError"),
    ("grpc", "RpcError"),
    ("builtins", "ConnectionError"),
    ("builtins", "TimeoutError"),
    ("concurrent.futures._base", "CancelledError"),
    # What Jumpstarter's client makes of a stream that ended before its first words.
    ("pydantic_core._pydantic_core", "ValidationError"),
}


def device_error(error: BaseException, healths: Iterable[Health], start: float) -> DeviceError | None:
    """
    Return the fault of the lab behind `error`, or None if it is none.

    Args:
        error: What ended a phase of a test.
        healths: The devices that the test uses.
        start: When the test began, by `time.monotonic()`; a console that is older says so on its errors. One that is
            younger may have been opened on a connection that had broken a moment before.
    """
    if isinstance(error, AssertionError):
        return None
    for each in _all(error):
        if isinstance(each, DeviceError):
            return each
    if not any(_is_suspicious(each) for each in _all(error)):
        return None
    opened = (getattr(each, "since", None) for each in _all(error))
    start = min([start, *(since for since in opened if isinstance(since, float))])
    return next(filter(None, (health.fault_since(start) for health in healths)), None)


def _all(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, or what a group of errors holds."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _all(each)
    else:
        yield error


def _is_suspicious(error: BaseException) -> bool:
    if isinstance(error, TransportError):
        return True
    return not _SUSPICIOUS.isdisjoint((base.__module__, base.__name__) for base in type(error).__mro__)

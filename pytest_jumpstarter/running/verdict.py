"""
Three verdicts, never mixed up: *test failure* (product), *device error* (lab), *configuration error* (user).

A phase of a test is a device error in three cases:

- It ended with a known error of ours, or with an error that a lost connection explains: a console or driver call that
  failed while lease, exporter or tunnel was at fault. A connection that broke and came back counts only for the call
  that ran at that time. An error that no call of ours raised is judged by the present state alone.
- A board of the test was not to be had, or was lost for good by the end of the phase, whatever the test made of it.
- A hook (`pytest_jumpstarter_classify_error`) says so.

An `AssertionError` is never a device error by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.device.call_window import call_began, leaves, was_never_sent
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import DeviceError, DeviceUnreachable, JumpstarterError, TransportError
from pytest_jumpstarter.evidence.record import DeviceErrorFacts
from pytest_jumpstarter.running.current_test import CurrentTest

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

_NO_FAILURE = (pytest.skip.Exception, pytest.xfail.Exception)
_SAID_LINES = 20


class Verdicts:
    """
    Judges the phases of tests.

    Args:
        test: Knows the test that runs.
        healths: The state of each role's device.
    """

    def __init__(self, test: CurrentTest, healths: Mapping[str, Health]) -> None:
        self._test = test
        self._healths = healths

    def healths_of(self, item: pytest.Item) -> dict[str, Health]:
        """Return the state of each device of a test, but for those that went back before it began."""
        found = {role: self._healths[role] for role in devices_of(item).roles if role in self._healths}
        return {role: health for role, health in found.items() if health.retired > self._test.test_began}

    def find(self, item: pytest.Item, call: pytest.CallInfo[None], *, is_ending: bool) -> DeviceError | None:
        """
        Return the fault of the lab by which a phase of a test is a device error, or None if it is not.

        Args:
            item: The test.
            call: The phase.
            is_ending: Whether the run ends by a signal, which takes the boards away.
        """
        error = self._test.error(call)
        is_failure = error is not None and not isinstance(error, _NO_FAILURE)
        healths = self.healths_of(item).values()
        fault = device_error(error, healths) if error is not None and is_failure else None
        if fault is None and not is_ending:
            fault = lost_for_good(healths, self._test.began(call))
        if fault is None and call.when != "teardown":
            fault = devices_of(item).failure
        if fault is None and is_failure and not isinstance(error, AssertionError):
            reason = item.config.hook.pytest_jumpstarter_classify_error(error=error, item=item)
            fault = DeviceError(reason) if reason else None
        return fault


def device_error(error: BaseException, healths: Iterable[Health]) -> DeviceError | None:
    """
    Return the fault of the lab that `error` tells of, or None if it tells of none.

    Args:
        error: What ended a phase of a test.
        healths: The devices that the test uses.
    """
    if any(isinstance(each, AssertionError) for each in leaves(error)):
        return None
    chain = [each for leaf in leaves(error) for each in _with_causes(leaf)]
    known = next((each for each in chain if isinstance(each, DeviceError)), None)
    if known is not None:
        return known
    suspicious = [each for each in chain if _is_suspicious(each)]
    if not suspicious:
        return None
    began = min((moment for each in suspicious if (moment := call_began(each)) is not None), default=math.inf)
    fault = next(filter(None, (health.fault_since(began) for health in healths)), None)
    is_of_lab = any(was_never_sent(each) for each in suspicious)  # whatever became of the connection since
    return fault or (DeviceUnreachable(f"a call could not be sent: {suspicious[0]}") if is_of_lab else None)


def lost_for_good(healths: Iterable[Health], began: float) -> DeviceError | None:
    """Return the loss of the first of these devices that is lost for good, or None if all are there."""
    return next(filter(None, (health.loss_during(began) for health in healths)), None)


def facts_of(fault: DeviceError, said: str) -> DeviceErrorFacts:
    """Return what is known of the fault, as plain data."""
    return {
        "reason": str(fault),
        "kind": type(fault).__name__,
        "exporter": fault.exporter,
        "lease": fault.lease,
        "test_said": said,
    }


def what_the_test_said(report: pytest.TestReport, error: BaseException | None, fault: DeviceError) -> str:
    """Return what the test ended with, where that hides the fault; empty if it failed by the fault."""
    if report.skipped or hasattr(report, "wasxfail"):
        said = f"{'xfail' if hasattr(report, 'wasxfail') else 'skipped'}: {_reason(report)}"
    elif error is not None and (error is fault or device_error(error, ()) is fault):
        said = ""
    elif error is None:
        said = "passed" if report.passed else str(report.longrepr)
    elif _is_suspicious(error):
        said = ""
    else:
        said = f"{type(error).__name__}: {error}"
    return "\n".join(said.splitlines()[:_SAID_LINES])


def _reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail) or "no reason given"
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """
    Yield an error and what it was raised from, as helpers of a suite do.

    An assertion, and an error of ours that is no device error, has a verdict of its own, whatever led to it.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and not isinstance(cause, AssertionError):
        seen.add(id(cause))
        yield cause
        has_verdict = isinstance(cause, JumpstarterError) and not isinstance(cause, DeviceError)
        cause = None if has_verdict else cause.__cause__


def _is_suspicious(error: BaseException) -> bool:
    if isinstance(error, TransportError):
        return True
    return not _SUSPICIOUS.isdisjoint((base.__module__, base.__name__) for base in type(error).__mro__)

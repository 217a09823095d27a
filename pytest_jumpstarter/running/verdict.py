"""
Finds the verdict on a phase of a test: *test failure* (product), *device error* (lab) or *configuration error* (user).

A phase of a test is a device error in three cases:

- It ended with a device error of this package, or with an error that a lost connection explains: a console or driver
  call failed while the lease, the exporter or the tunnel was at fault. If the connection broke and was restored, this
  counts only for the call that ran at that time. An error that no console or driver call raised is judged only by the
  present state of the connection.
- The test did not get one of its boards, or one was lost for good before the end of the phase, even if the test handled
  the error.
- A hook (`pytest_jumpstarter_classify_error`) says so.

An `AssertionError` alone is never a device error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.device.call_window import call_began, leaves, was_answered, was_never_sent
from pytest_jumpstarter.devices_of import devices_of
from pytest_jumpstarter.errors import DeviceError, DeviceUnreachable, JumpstarterError, TransportError
from pytest_jumpstarter.evidence.record import DeviceErrorFacts
from pytest_jumpstarter.jumpstarter_private import ERRORS_OF_CONNECTIONS
from pytest_jumpstarter.running.current_test import CurrentTest

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.health import Health

# By name, so that a verdict imports none of these modules.
_SUSPICIOUS = {
    ("pexpect.exceptions", "EOF"),
    ("pexpect.exceptions", "TIMEOUT"),
    ("anyio", "BrokenResourceError"),
    ("anyio", "ClosedResourceError"),
    ("anyio", "EndOfStream"),
    *ERRORS_OF_CONNECTIONS,
    ("grpc", "RpcError"),
    ("builtins", "ConnectionError"),
    ("builtins", "TimeoutError"),
    ("concurrent.futures._base", "CancelledError"),
    # Jumpstarter's client raises this if a stream ends before its first message.
    ("pydantic_core._pydantic_core", "ValidationError"),
}

_NO_FAILURE = (pytest.skip.Exception, pytest.xfail.Exception)
_SAID_LINES = 20


class Verdicts:
    """
    Finds the verdicts on the phases of tests.

    Args:
        test: Knows the test that runs.
        healths: The health of each role's device.
    """

    def __init__(self, test: CurrentTest, healths: Mapping[str, Health]) -> None:
        self._test = test
        self._healths = healths

    def healths_of(self, item: pytest.Item) -> dict[str, Health]:
        """Return the health of each device of a test, without devices that were released before its start."""
        devices, began = devices_of(item), self._test.test_began
        return {role: health for role, health in self._healths.items() if devices.has(role) and health.retired > began}

    def find(self, item: pytest.Item, call: pytest.CallInfo[None], *, is_ending: bool) -> DeviceError | None:
        """
        Return the fault of the lab that makes a phase of a test a device error; None if it is not a device error.

        Args:
            item: The test.
            call: The phase.
            is_ending: Whether a signal ends the run; then boards are released during the phase.
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
    Return the fault of the lab that explains `error`; None if there is none.

    Args:
        error: The error that ended a phase of a test.
        healths: The healths of the devices that the test uses.
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
    answered = any(was_answered(each) for each in suspicious)
    fault = next(filter(None, (health.fault_since(began, was_answered=answered) for health in healths)), None)
    is_of_lab = any(was_never_sent(each) for each in suspicious)  # whatever became of the connection since
    return fault or (DeviceUnreachable(f"a call could not be sent: {suspicious[0]}") if is_of_lab else None)


def lost_for_good(healths: Iterable[Health], began: float) -> DeviceError | None:
    """Return the loss of the first of these devices that is lost for good; None if no device is lost."""
    for health in healths:
        if (loss := health.loss_during(began)) is not None:
            return loss
    return None


def facts_of(fault: DeviceError, test_said: str) -> DeviceErrorFacts:
    """Return the facts about the fault, as plain data."""
    return {
        "reason": str(fault),
        "kind": type(fault).__name__,
        "exporter": fault.exporter,
        "lease": fault.lease,
        "test_said": test_said,
    }


def what_the_test_said(report: pytest.TestReport, error: BaseException | None, fault: DeviceError) -> str:
    """Return the test's own result, if that differs from the fault; empty if the test failed by the fault."""
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
    Yield an error and the chain of its causes: helpers of a suite often raise their own error from ours.

    The chain ends at an assertion, or at an error of this package that is not a device error: these decide the verdict.
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

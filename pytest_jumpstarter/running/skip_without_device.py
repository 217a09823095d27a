"""Skips tests for want of a device (`--jmp-no-device skip`), and says so in the record of their reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.pytest_private import skipped

if TYPE_CHECKING:
    from pytest_jumpstarter.errors import LeaseTimeout


class DeviceSkips:
    """In the process that leases: skips tests for want of a device, and marks their reports."""

    def __init__(self) -> None:
        self._wanted: dict[BaseException, str] = {}

    def skip(self, wanted: str, error: LeaseTimeout) -> NoReturn:
        """Skip the test that needs the device, in the words of `error`."""
        reason = skipped(str(error))
        self._wanted[reason] = wanted
        raise reason from error

    def mark(self, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Note in the record for want of what the test was skipped."""
        if call.excinfo is not None and call.excinfo.value in self._wanted and report.skipped:
            record["no_device"] = self._wanted[call.excinfo.value]

"""Skips tests for which no device is available (`--jmp-no-device skip`), and notes it in their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.pytest_private import skipped

if TYPE_CHECKING:
    from pytest_jumpstarter.errors import LeaseTimeout


class DeviceSkips:
    """In the process that leases: skips tests for which no device is available, and marks their reports."""

    def __init__(self) -> None:
        self._wanted: dict[BaseException, str] = {}

    def skip(self, wanted: str, error: LeaseTimeout) -> NoReturn:
        """Skip the test that needs the device, with the message of `error` as the reason."""
        reason = skipped(str(error))
        self._wanted[reason] = wanted
        raise reason from error

    def mark(self, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Note in the record which device was not available, if the test was skipped for this reason."""
        if call.excinfo is not None and call.excinfo.value in self._wanted and report.skipped:
            record["no_device"] = self._wanted[call.excinfo.value]

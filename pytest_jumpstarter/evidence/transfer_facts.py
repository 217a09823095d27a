"""In the process that leases: adds the transfers of a test, such as flashes, to its reports."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pytest_jumpstarter.evidence.record import Record, TransferFacts

if TYPE_CHECKING:
    from pytest_jumpstarter.device.transfers import Transfer

_MOST = 1000
"""Transfers of one phase of a test that are noted; a test may copy many small files."""


class TransferRecorder:
    """Collects transfers, and adds those that are over to the next report."""

    def __init__(self) -> None:
        self._begun: deque[tuple[str, Transfer]] = deque()

    def note(self, role: str, transfer: Transfer) -> None:
        """Note the start of a transfer; may be called from any thread."""
        if len(self._begun) < _MOST:
            self._begun.append((role, transfer))

    def add(self, record: Record) -> None:
        """Add the transfers that are over to the record."""
        over: list[tuple[str, Transfer]] = []
        for _ in range(len(self._begun)):  # others may note more meanwhile
            each = self._begun.popleft()
            (over if each[1].over.is_set() else self._begun).append(each)
        if over:
            record["transfers"] = [_facts(role, transfer) for role, transfer in over]


def _facts(role: str, transfer: Transfer) -> TransferFacts:
    return {
        "role": role,
        "driver": transfer.driver,
        "kind": transfer.what,
        "image": transfer.image,
        "start": transfer.moment,
        "seconds": round(transfer.seconds, 3),
        "bytes": transfer.count,
        "outcome": transfer.outcome,
    }

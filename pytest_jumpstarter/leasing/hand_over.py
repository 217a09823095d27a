"""Leases that are left to people when the run ends (`--jmp-hold-on-failure`), and how they reach them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.leasing.lease import Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """
    What people are told about leases that are left to them.

    Attributes:
        lines: The text.
        until: When the last of these leases ends, by `time.monotonic()`; 0 if there is none.
        leases: Their names.
    """

    lines: list[str]
    until: float = 0.0
    leases: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether there is such a lease at all."""
        return bool(self.leases)

    @classmethod
    def of(cls, reserved: list[Reservation], failures: list[str], *, client: str, is_lab: bool) -> HandOver:
        """Tell of leases that are reserved, and why others are not, to users of the client that `client` names."""
        lines = [line for reservation in reserved for line in _lines(reservation, client)]
        if reserved and is_lab:
            lines.append("the embedded lab goes on until then, or until Ctrl-C, and this process with it")
        longest = max((reservation.duration for reservation in reserved), default=0.0)
        return cls(
            lines=lines + failures,
            until=time.monotonic() + longest,
            leases=tuple(reservation.lease for reservation in reserved),
        )


def _lines(reservation: Reservation, client: str) -> list[str]:
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + reservation.duration))
    note = f"; {reservation.note}" if reservation.note else ""
    return [
        f"exporter {reservation.exporter} is leased until {end} ({format_duration(reservation.duration)}{note})",
        f"to reach it:   jmp shell{client} --lease {reservation.lease}",
        f"to release it: jmp delete leases{client} {reservation.lease}",
    ]

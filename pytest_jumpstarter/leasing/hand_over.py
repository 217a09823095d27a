"""Leases that are kept for people when the run ends (`--jmp-hold-on-failure`), and how to use them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing.lease import Reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """
    Leases that are kept for people, and the lines that tell them how to use these leases.

    Attributes:
        lines: The lines.
        until: When the last of these leases ends, by `time.monotonic()`; in the past if there is none.
        leases: The names of the leases.
    """

    lines: list[str]
    until: float = 0.0
    leases: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether there is such a lease."""
        return bool(self.leases)

    @classmethod
    def of(cls, reserved: list[Reservation], failures: list[str], *, client: str, is_lab: bool) -> HandOver:
        """Describe the reserved leases, and the failures, for `jmp` commands with the options `client`."""
        lines = [line for reservation in reserved for line in _lines(reservation, client)]
        if reserved and is_lab:
            lines.append("the embedded lab and this process keep running until then, or until Ctrl-C")
        longest = max((reservation.duration for reservation in reserved), default=0.0)
        return cls(
            lines=lines + failures,
            until=real_time.monotonic() + longest,
            leases=tuple(reservation.lease for reservation in reserved),
        )


def _lines(reservation: Reservation, client: str) -> list[str]:
    end = real_time.clock(real_time.time() + reservation.duration, "%Y-%m-%d %H:%M:%S")
    note = f"; {reservation.note}" if reservation.note else ""
    return [
        f"exporter {reservation.exporter} is leased until {end} ({format_duration(reservation.duration)}{note})",
        f"to reach it:   jmp shell{client} --lease {reservation.lease}",
        f"to release it: jmp delete leases{client} {reservation.lease}",
    ]

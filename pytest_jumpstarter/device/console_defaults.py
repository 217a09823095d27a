"""`ConsoleDefaults`: what a console is at first, such as which messages of a board are fatal."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_jumpstarter.device.session import DEFAULT_TIMEOUT

FATAL = (
    r"Kernel panic - not syncing",
    r"Internal error: Oops|\bOops: \w+ \[#\d+\]",
    r"\bHardFault\b|\*\*\* (?:HARD|MPU|BUS|USAGE) FAULT \*\*\*",
    r"watchdog: BUG:|\b[Ww]atchdog (?:bite|expired)\b|\bTG[01]WDT_SYS_RESET\b",
    r"Guru Meditation Error|task_wdt: Task watchdog got triggered",  # ESP-IDF
    r"ZEPHYR FATAL ERROR",
    r"\"Synchronous Abort\" handler|### ERROR ### Please RESET the board ###",  # U-Boot
)
"""After these messages a board prints nothing more that a test could wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleDefaults:
    """
    What a console is at first.

    Attributes:
        fatal: See `Console.fatal`; None for `FATAL`.
        timeout: See `Console.timeout`.
        keeps_escapes: See `Console.keeps_escapes`.
    """

    fatal: tuple[str, ...] | None = None
    timeout: float | None = DEFAULT_TIMEOUT
    keeps_escapes: bool = True

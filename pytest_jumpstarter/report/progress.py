"""
`Progress`: shows transfers that take long, such as a flash, while they run.

A thread writes while the transfer runs. On a terminal one line is written again and again; anywhere else there are few
lines. A worker of xdist has no terminal: it sends its lines to the process that has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.masking import safe
from pytest_jumpstarter.report.past_capture import PastCapture

if TYPE_CHECKING:
    from pytest_jumpstarter.device.transfers import Transfer

SHOWN_AFTER = 1.0
"""Seconds after which a transfer is shown on a terminal."""

DRAW_EVERY = 0.2
LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""

TOLD_AFTER = 10.0
"""Seconds that a transfer took whose end is told where there is no terminal."""

_SETTLE_TIMEOUT = 1.0
_NAME = 24  # characters of the name of an image


class Progress:
    """
    Shows the transfers of all devices of this process.

    Args:
        output: Where lines are written, or what sends a line to the process that has the terminal.
    """

    def __init__(self, output: PastCapture | Callable[[str], None]) -> None:
        self._output = output
        self._watched: list[Transfer] = []
        self._is_over = False

    def watch(self, role: str, transfer: Transfer) -> None:
        """Show a transfer until it is over."""
        if transfer.over.is_set() or (isinstance(self._output, PastCapture) and not self._output.is_open):
            return
        thread = threading.Thread(target=self._show, args=[role, transfer], name="jumpstarter-progress", daemon=True)
        with suppress(RuntimeError):  # no more threads
            thread.start()
            transfer.wait_told = partial(thread.join, _SETTLE_TIMEOUT)
            self._watched.append(transfer)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Write the last lines before pytest writes the result."""
        self._settle()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Write the last lines before pytest tells that it was interrupted."""
        self._settle()

    def pytest_unconfigure(self) -> None:
        """Write nothing more."""
        self._settle()
        self._is_over = True

    def _settle(self) -> None:
        """Wait for the last lines of transfers that are over."""
        for transfer in list(self._watched):
            if transfer.over.is_set():
                transfer.wait_told()
                self._watched.remove(transfer)

    def _show(self, role: str, transfer: Transfer) -> None:
        if transfer.over.wait(SHOWN_AFTER):
            return
        if isinstance(self._output, PastCapture) and self._output.can_draw:
            while not transfer.over.wait(DRAW_EVERY):
                self._output.draw(_line(role, transfer), is_last=False)
            self._output.draw(_line(role, transfer), is_last=True)
            return
        is_shown, due = False, LINE_EVERY
        while not transfer.over.wait(DRAW_EVERY):
            if transfer.seconds >= due:
                self._tell(role, transfer)
                is_shown, due = True, transfer.seconds + LINE_EVERY
        if is_shown or transfer.seconds >= TOLD_AFTER:
            self._tell(role, transfer)

    def _tell(self, role: str, transfer: Transfer) -> None:
        if isinstance(self._output, PastCapture):
            self._output.line(_line(role, transfer))
        elif not self._is_over:
            self._output(words(role, transfer))


def _line(role: str, transfer: Transfer) -> str:
    return safe(f"jumpstarter: {words(role, transfer)}")


def words(role: str, transfer: Transfer) -> str:
    """Return what is known of a transfer, for people: `dut storage: 46 % 23.3 of 50.3 MB, 53.5 MB/s, 12s left`."""
    count, total, seconds = transfer.count, transfer.total, transfer.seconds
    image = f" ({_short(transfer.image)})" if transfer.image else ""  # at the end, which a narrow terminal cuts
    parts = []
    if count:
        share = f"{100 * count // total:3} % " if total else ""
        parts.append(f"{share}{count / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB")
        if transfer.outcome or count < total or not total:
            parts.append(f"{count / 1e6 / max(seconds, 0.001):.1f} MB/s")
    if transfer.outcome == "failed":
        parts.append(f"failed after {_span(seconds)}")
    elif transfer.outcome:
        parts.append(f"took {_span(seconds)}")
    elif count and total > count:
        parts.append(f"{_span((total - count) * seconds / count)} left")
    else:
        parts.append(f"{'all sent, ' if count and total else ''}{_span(seconds)} so far")
    return f"{role} {transfer.driver}: {', '.join(parts)}{image}"


def _short(name: str) -> str:
    """Return the name of an image, so short that the numbers have room in a line; half of a secret would be shown."""
    name = safe(name)
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 2]}...{name[-_NAME // 2 + 1 :]}"


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f}s"
    return f"{seconds:.0f}s" if seconds < 120 else f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"

"""
Stop a run in order after SIGINT, SIGTERM or SIGHUP: its leases are released first, then pytest ends the run.

A CI system waits about ten seconds between its signal and SIGKILL. So a separate thread releases the leases at once,
while the main thread leaves the test. A second signal waits for that thread, then ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELEASE_TIMEOUT = 5.0
"""Seconds for releasing all leases after a signal."""


class OrderlyStop:
    """
    The signal handlers, in force from `install` to `restore`.

    Args:
        release: Releases all leases; called once, in a thread.
        on_hangup: Called for SIGHUP, which then does not end the run; None to handle SIGHUP like the other signals.

    Attributes:
        received: The signal that ends the run; 0 if there was none.
    """

    def __init__(self, release: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> None:
        self.received = 0
        self._release = release
        self._on_hangup = on_hangup
        self._former: dict[int, Any] = {}
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def install(self) -> None:
        """Install the handlers, in the main thread only; a signal that is ignored stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            former = signal.getsignal(number)
            if former is not signal.SIG_IGN and former is not None:
                self._former[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Restore the former handlers, except for signals whose handler was replaced since."""
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._former.clear()

    def wait_released(self) -> None:
        """Wait until the thread that releases the leases has ended, if a signal started it."""
        if self._thread is not None:
            self._thread.join(RELEASE_TIMEOUT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # pytest then shows the line at which the signal came
        if os.getpid() != self._pid:  # a forked child, which has no leases
            self._end_as(number)
        if number == signal.SIGHUP and self._on_hangup is not None:
            self._on_hangup()
            return
        if self.received:
            self.wait_released()
            self._end_as(number)
        self.received = number
        thread = threading.Thread(target=self._release, name="jumpstarter-release", daemon=True)
        with suppress(RuntimeError):  # there are no more threads: the leases go back as the run unwinds
            thread.start()
            self._thread = thread
        former = self._former.get(number)
        if callable(former):
            former(number, frame)  # Python's own for SIGINT raises KeyboardInterrupt
        raise pytest.exit.Exception(f"{signal.Signals(number).name} received", returncode=128 + number)

    def _end_as(self, number: int) -> None:
        """End the process by the signal itself, with its default handler."""
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

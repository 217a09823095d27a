"""
Stop a run in order after SIGINT, SIGTERM or SIGHUP: its leases are released first, then pytest ends the run.

A CI system waits about ten seconds between its signal and SIGKILL. So a separate thread releases the leases at once,
while the main thread leaves the test. After a second signal another thread writes the reports, since what the signal
interrupted may hold a lock that they need; when both threads have ended, the process ends.
The signals may be so close that the second interrupts the handler of the first, so nothing here waits for a lock.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from pytest_jumpstarter.host import real_time

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELEASE_TIMEOUT = 5.0
"""Seconds for releasing all leases after a signal, and for what is done before a second one ends the process."""

_LOOK_INTERVAL = 0.01


class OrderlyStop:
    """
    The signal handlers, in force from `install` to `restore`.

    Args:
        release: Releases all leases; called once, in a thread.
        on_hangup: Called for SIGHUP, which then does not end the run; None to handle SIGHUP like the other signals.

    Attributes:
        received: The signal that ends the run; 0 if there was none.
        before_end: Called after a second signal, before it ends the process, in a thread, the last one first: writes
            what would be lost, and removes what would be left behind.
    """

    def __init__(self, release: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> None:
        self.received = 0
        self.before_end: list[Callable[[], None]] = []
        self._release = release
        self._on_hangup = on_hangup
        self._former: dict[int, Any] = {}
        self._is_starting = False
        self._threads: list[Callable[[], None]] = []
        self._second = 0
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
        if self.received:
            # Once KeyboardInterrupt has left an `exec`, `python -m pytest` ends as killed by SIGINT, whatever its exit
            # code; only another `exec` clears that. Source: `run_eval_code_obj` and `Py_RunMain` of CPython
            exec("")

    def wait_released(self) -> None:
        """Wait until the threads that signals started have ended."""
        deadline = real_time.monotonic() + RELEASE_TIMEOUT
        while self._threads and real_time.monotonic() < deadline:
            real_time.sleep(_LOOK_INTERVAL)  # not `join`: a second signal may come in the middle of it

    def require_none(self) -> None:
        """
        End the run if a signal came, although the test caught what the handler raised, or the interpreter dropped it.

        Raises:
            pytest.exit.Exception: A signal came.
        """
        if self.received:
            raise self._exit()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # pytest then shows the line at which the signal came
        if os.getpid() != self._pid:  # a forked child, which has no leases
            self._end_as(number)
        if number == signal.SIGHUP and self._on_hangup is not None:
            self._on_hangup()
            return
        if self._is_starting or self._has_just_begun(frame):
            self._second = number
            return
        if self.received:
            self._end_after_release(number)
        self._start_release(number)
        if self._second:
            self._end_after_release(self._second)
        former = self._former.get(number)
        if callable(former):
            former(number, frame)  # Python's own for SIGINT raises KeyboardInterrupt
        raise self._exit()

    def _has_just_begun(self, frame: FrameType | None) -> bool:
        """Return whether a signal came when the handler of the first one had done nothing yet."""
        begins = (OrderlyStop._handle.__code__, OrderlyStop._start_release.__code__)
        return not self.received and frame is not None and frame.f_code in begins

    def _start_release(self, number: int) -> None:
        """Start the thread that releases the leases; a signal that comes meanwhile is noted as the second."""
        self._is_starting = True
        self.received = number
        self._start(self._release)  # without a thread the leases are released as the run ends
        self._is_starting = False

    def _start(self, work: Callable[[], None]) -> bool:
        """Start a thread; return False if there are no more threads."""
        self._threads.append(work)
        try:
            start_new_thread(self._work, (work,))  # `Thread.start` would wait for locks
        except RuntimeError:
            self._threads.remove(work)
            return False
        return True

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._threads.remove(work)

    def _exit(self) -> BaseException:
        name = signal.Signals(self.received).name
        return pytest.exit.Exception(f"{name} received", returncode=128 + self.received)

    def _end_after_release(self, number: int) -> None:
        if not self._start(self._prepare_end):
            self._prepare_end()
        self.wait_released()
        self._end_as(number)

    def _prepare_end(self) -> None:
        while self.before_end:
            with suppress(Exception):  # the process ends in any case
                self.before_end.pop()()

    def _end_as(self, number: int) -> None:
        """End the process by the signal itself, with its default handler."""
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

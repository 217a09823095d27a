"""
SIGINT, SIGTERM and SIGHUP turned into an orderly stop: boards go back first, then the run unwinds.

After a signal a CI system gives a process some ten seconds. So the leases are deleted at once, from a thread of their
own, while the main thread leaves the test; a second signal waits for that thread and ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import pytest

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RELEASE_TIMEOUT = 5.0
"""Seconds for all leases together to be given back after a signal."""


class OrderlyStop:
    """
    The handlers, from `install` to `restore`.

    Args:
        release: Gives every lease back; called once, in a thread.
        on_hangup: Called for SIGHUP, which then stops nothing; None where it is a signal like the others.

    Attributes:
        received: The signal that ends the run; 0 if none came.
    """

    def __init__(self, release: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> None:
        self.received = 0
        self._release = release
        self._on_hangup = on_hangup
        self._former: dict[int, Any] = {}
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def install(self) -> None:
        """Take the signals over, in the main thread only; one that is ignored stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in NUMBERS:
            former = signal.getsignal(number)
            if former is not signal.SIG_IGN and former is not None:
                self._former[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back to whoever had them, unless somebody took them since."""
        for number, former in self._former.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, former)
        self._former.clear()

    def wait_released(self) -> None:
        """Wait until the thread that gives the leases back is done, if a signal started it."""
        if self._thread is not None:
            self._thread.join(RELEASE_TIMEOUT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True  # the place that is shown is the one where the signal came
        if os.getpid() != self._pid:  # a forked child: no lease is its own
            self._end_as(number)
        if number == signal.SIGHUP and self._on_hangup is not None:
            self._on_hangup()
            return
        if self.received:
            self.wait_released()
            self._end_as(number)
        self.received = number
        self._thread = threading.Thread(target=self._release, name="jumpstarter-release", daemon=True)
        self._thread.start()
        former = self._former.get(number)
        if callable(former):
            former(number, frame)  # Python's own for SIGINT raises KeyboardInterrupt
        raise pytest.exit.Exception(f"{signal.Signals(number).name} received", returncode=128 + number)

    def _end_as(self, number: int) -> None:
        """End the process as the signal alone would have."""
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class Interrupter:
    """
    Raises an error in the main thread, where a test may be blocked for good because its board is gone.

    Args:
        delay: Seconds the test has to notice by itself.
    """

    NUMBER = signal.SIGUSR2

    def __init__(self, *, delay: float = 5.0) -> None:
        self._delay = delay
        self._error: BaseException | None = None
        self._is_needed: Callable[[], bool] = lambda: False

    def interrupt(self, error: BaseException, is_needed: Callable[[], bool]) -> None:
        """
        Raise `error` in the main thread in a while, if it is still needed then; may be called from any thread.

        Nothing is done where somebody else uses the signal.
        """

        def raise_there() -> None:
            if is_needed() and signal.getsignal(self.NUMBER) == self._handle:
                self._error, self._is_needed = error, is_needed
                signal.pthread_kill(threading.main_thread().ident or 0, self.NUMBER)

        timer = threading.Timer(self._delay, raise_there)
        timer.daemon = True
        timer.start()

    def install(self) -> None:
        """Take the signal over if nobody has it, in the main thread only."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(self.NUMBER) is signal.SIG_DFL:
            signal.signal(self.NUMBER, self._handle)

    def restore(self) -> None:
        """Give the signal back."""
        if signal.getsignal(self.NUMBER) == self._handle:
            signal.signal(self.NUMBER, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler takes
        __tracebackhide__ = True
        error, self._error = self._error, None
        if error is not None and self._is_needed():
            raise error


def give_lines(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """
    Give each place in the tracebacks of an error and of what led to it a line.

    In Python 3.11 the jump at the end of a loop may have none, and pytest dies of an error that a signal raised there.
    """
    error: BaseException | None = excinfo.value
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        is_mended = _give_lines(error)
        if is_mended and error is excinfo.value and error.__traceback__ is not None:
            excinfo.traceback = type(excinfo.traceback)(error.__traceback__)  # it may have been read before
        error = error.__cause__ or error.__context__


def _give_lines(error: BaseException) -> bool:
    """Give each place in the traceback of an error a line; tell whether one had none."""
    is_mended = False
    place = before_first = TracebackType(error.__traceback__, sys._getframe(), 0, 0)
    while (following := place.tb_next) is not None:
        if following.tb_lineno is None:
            place.tb_next = following = _with_line(following)
            is_mended = True
        place = following
    error.__traceback__ = before_first.tb_next
    return is_mended


def _with_line(place: TracebackType) -> TracebackType:
    """Return the place with the last line before it in its function."""
    code = place.tb_frame.f_code
    lines = [line for start, _, line in code.co_lines() if start <= place.tb_lasti and line is not None]
    return TracebackType(place.tb_next, place.tb_frame, place.tb_lasti, lines[-1] if lines else code.co_firstlineno)

"""`Interrupter`: ends a test that is blocked in the main thread because its board is gone."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType

import pytest


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
        with suppress(RuntimeError):  # there are no more threads: the test must notice by itself
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

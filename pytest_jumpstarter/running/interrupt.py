"""`Interrupter`: ends a test that is blocked in the main thread because its board is lost."""

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
    Raises an error in the main thread, because a test may be blocked there forever after the loss of its board.

    Args:
        delay: Seconds in which the test may notice the loss by itself.
    """

    NUMBER = signal.SIGUSR2

    def __init__(self, *, delay: float = 5.0) -> None:
        self._delay = delay
        self._error: BaseException | None = None
        self._is_needed: Callable[[], bool] = lambda: False

    def interrupt(self, error: BaseException, is_needed: Callable[[], bool]) -> None:
        """
        Raise `error` in the main thread after the delay, if `is_needed` is true then; may be called from any thread.

        Nothing happens if other code uses the signal.
        """

        def raise_there() -> None:
            if is_needed() and signal.getsignal(self.NUMBER) == self._handle:
                self._error, self._is_needed = error, is_needed
                signal.pthread_kill(threading.main_thread().ident or 0, self.NUMBER)

        timer = threading.Timer(self._delay, raise_there)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread can be started: the test must notice the loss by itself
            timer.start()

    def install(self) -> None:
        """Install the signal handler, in the main thread only, and only if the signal has no other handler."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(self.NUMBER) is signal.SIG_DFL:
            signal.signal(self.NUMBER, self._handle)

    def restore(self) -> None:
        """Remove the signal handler."""
        if signal.getsignal(self.NUMBER) == self._handle:
            signal.signal(self.NUMBER, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of signal handlers
        __tracebackhide__ = True
        error, self._error = self._error, None
        if error is not None and self._is_needed():
            raise error


def give_lines(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """
    Add missing line numbers to the tracebacks of an error, its causes and its contexts.

    In Python 3.11 the jump at the end of a loop may have no line number. If a signal handler raises an error there,
    pytest crashes.
    """
    error: BaseException | None = excinfo.value
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        has_changed = _give_lines(error)
        if has_changed and error is excinfo.value and error.__traceback__ is not None:
            excinfo.traceback = type(excinfo.traceback)(error.__traceback__)  # pytest may have cached the old one
        error = error.__cause__ or error.__context__


def _give_lines(error: BaseException) -> bool:
    """Add missing line numbers to the traceback of one error; return whether there were any."""
    has_changed = False
    entry = before_first = TracebackType(error.__traceback__, sys._getframe(), 0, 0)
    while (following := entry.tb_next) is not None:
        if following.tb_lineno is None:
            entry.tb_next = following = _with_line(following)
            has_changed = True
        entry = following
    error.__traceback__ = before_first.tb_next
    return has_changed


def _with_line(entry: TracebackType) -> TracebackType:
    """Return a traceback entry with the number of the last line before it in its function."""
    code = entry.tb_frame.f_code
    lines = [line for start, _, line in code.co_lines() if start <= entry.tb_lasti and line is not None]
    return TracebackType(entry.tb_next, entry.tb_frame, entry.tb_lasti, lines[-1] if lines else code.co_firstlineno)

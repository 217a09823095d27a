"""`PastCapture`: writes lines to the terminal while tests run, past pytest's capture."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext, suppress

import pytest

_COLUMNS = 80  # of a terminal that does not know its size
_ERASE = "\r\x1b[K"


class PastCapture:
    """
    Writes lines to the terminal while tests run, from any thread.

    pytest's capture redirects descriptor 1 during a test. So the lines go to a copy of it that was made while capture
    was suspended.

    Attributes:
        can_draw: Whether a line may be written again in its place: on a terminal where pytest does not show log
            messages at once, which would tear it.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager
        self._lock = threading.Lock()
        self._descriptor = _copy_of_output(config)
        self._is_drawn = False
        self.can_draw = self._descriptor is not None and os.isatty(self._descriptor) and not _logs_live(config)
        config.add_cleanup(self.close)

    @property
    def is_open(self) -> bool:
        """Whether there is an output to write to."""
        return self._descriptor is not None

    def line(self, text: str) -> None:
        """Write a line, which is safe; one that is drawn gives way to it, until it is drawn again."""
        with self._lock:
            start = _ERASE if self._is_drawn else self._end_of_line()
            self._is_drawn = False
            self._write(f"{start}{text}\n")

    def draw(self, text: str, *, is_last: bool) -> None:
        """Write a line, which is safe, in place of the one that was drawn before; the last one stays."""
        with self._lock:
            start, end = "" if self._is_drawn else self._end_of_line(), "\n" if is_last else ""
            self._is_drawn = not is_last
            self._write(f"{start}\r{text[: self._columns() - 1]}\x1b[K{end}")

    def close(self) -> None:
        """Write nothing more."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, text: str) -> None:
        with suppress(OSError):
            if self._descriptor is not None:
                os.write(self._descriptor, text.encode(errors="replace"))

    def _columns(self) -> int:
        with suppress(OSError):
            if self._descriptor is not None:
                return os.get_terminal_size(self._descriptor).columns or _COLUMNS
        return _COLUMNS

    def _end_of_line(self) -> str:
        """Return what ends the line that pytest has begun; it will begin a new one."""
        reporter = self._plugins.getplugin("terminalreporter")
        has_begun = bool(getattr(reporter, "currentfspath", None))
        if has_begun:
            reporter.currentfspath = None
        return "\n" if has_begun else ""


def _copy_of_output(config: pytest.Config) -> int | None:
    """Return a copy of the descriptor that pytest writes to; None if it writes nothing."""
    if config.pluginmanager.getplugin("terminalreporter") is None:
        return None
    capture = config.pluginmanager.getplugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():
        try:
            return os.dup(1)
        except OSError:  # it is closed, or there are too many
            return None


def _logs_live(config: pytest.Config) -> bool:
    try:
        return bool(config.getini("log_cli")) or config.getoption("log_cli_level", default=None) is not None
    except ValueError:  # without pytest's logging plugin
        return False

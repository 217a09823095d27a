"""`LineFollower`: passes each line of a console on while it comes, to `logging` and to who shows it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from pytest_jumpstarter.masking import first_characters

if TYPE_CHECKING:
    from pytest_jumpstarter.device.shared_port import SharedPort

LOGGER = "jumpstarter.console"

_LONGEST_LINE = 4096  # characters
_LONGEST_HELD = 1 << 16  # bytes of a line without an end
_FARTHEST_BEHIND = 4 << 20  # bytes
_CHUNK_BYTES = 1 << 16
_CLOSE_TIMEOUT = 2.0


class LineFollower:
    """
    Passes each line of a console on, made safe: to the logger `jumpstarter.console.ROLE`, level INFO, and to `show`.

    Lines are complete, because a secret in two pieces could not be masked. If the board is faster, lines are left out.
    A thread does it, which starts when somebody wants the lines.

    Args:
        port: The port of the console.
        role: The role of the device.
        show: Called with each line; None if nobody shows them.
    """

    def __init__(self, port: SharedPort, role: str, show: Callable[[str], None] | None = None) -> None:
        self._recording = port.recording
        self._logger = logging.getLogger(f"{LOGGER}.{role}")
        self._show = show
        self._position = 0
        self._rest = b""
        self._news: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        port.readers.add(self._wake)

    def _wake(self) -> None:
        """Let the thread pass on what has come, if somebody wants it; called in the loop."""
        if self._show is None and not self._logger.isEnabledFor(logging.INFO):
            if self._thread is None:
                self._position = self._recording.end
            return
        if self._thread is None:
            thread = threading.Thread(target=self._follow, name="jumpstarter-console-lines", daemon=True)
            with suppress(RuntimeError):  # no more threads
                thread.start()
                self._thread = thread
        if self._news.empty():
            self._news.put(True)

    def close(self) -> None:
        """Pass on what has come, and stop; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._news.put(False)
            thread.join(_CLOSE_TIMEOUT)

    def _follow(self) -> None:
        goes_on = True
        while goes_on:
            goes_on = self._news.get()
            if (behind := self._recording.end - self._position) > _FARTHEST_BEHIND:
                self._position, self._rest = self._recording.end, b""
                self._pass_on(f"({behind} bytes came too fast to be shown)")
            while self._read():
                pass
        if self._rest:
            self._pass_on(self._rest.decode("utf-8", "replace"))

    def _read(self) -> bool:
        """Pass on the lines that have ended; return whether there may be more."""
        self._position, data = self._recording.read(self._position, _CHUNK_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._pass_on(line.decode("utf-8", "replace"))
        if len(self._rest) > _LONGEST_HELD:
            self._rest = self._rest[: _LONGEST_HELD // 2]  # of which the start is shown
        return bool(data)

    def _pass_on(self, line: str) -> None:
        for part in first_characters(line.rstrip("\r"), _LONGEST_LINE).split("\n"):
            self._logger.info("%s", part)
            if self._show is not None:
                self._show(part)

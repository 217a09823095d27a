"""
What the exit code of a run means: `EXIT_CODES` is the only place that decides on it.

Source: `pytest.ExitCode` for the codes 0 to 6, of which 6 (`--max-warnings`) is new in pytest 9.1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_jumpstarter.report.run_end import RunEnd

OF_SIGNALS = 128
"""The exit code of a signal is this plus its number."""

TOO_MANY_WARNINGS = 6
"""`pytest.ExitCode.MAX_WARNINGS_ERROR`, which older versions of pytest lack."""

_DEVICE_ERROR = 8  # pytest itself uses 0 to 6; plugins may use other numbers
_PASSED = (0, TOO_MANY_WARNINGS)


class ExitCode(NamedTuple):
    """
    A row of `EXIT_CODES`.

    Attributes:
        code: The exit code; 128 for the row of signals, whose number is added.
        meaning: What it means.
        applies: Whether a run ended so; gets the run's end, and the exit code that pytest chose.
    """

    code: int
    meaning: str
    applies: Callable[[RunEnd, int], bool]

    @property
    def name(self) -> str:
        """The exit code in the documentation."""
        return "128 + signal" if self.code == OF_SIGNALS else str(self.code)


EXIT_CODES = (
    ExitCode(
        OF_SIGNALS,
        "a signal ended the run: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP",
        lambda end, _: end.signal > 0,
    ),
    ExitCode(1, "a plugin or conftest file raised an error as the run ended", lambda end, _: end.has_failed_late),
    ExitCode(4, "pytest cannot start: an option, a configuration or a marker is wrong", lambda _, code: code == 4),
    ExitCode(3, "pytest or a plugin has an internal error", lambda _, code: code == 3),
    ExitCode(1, "a device is held after a failure", lambda end, code: end.has("device held") and code in (1, 2)),
    ExitCode(2, "test files cannot be imported", lambda end, code: code == 2 and end.has("collection error")),
    ExitCode(2, "the run was interrupted", lambda _, code: code == 2),
    ExitCode(
        1,
        "a check found faults, or tests without a device",
        lambda end, code: code == 0 and end.has("check failed"),
    ),
    ExitCode(
        _DEVICE_ERROR,
        "device errors are all that failed",
        lambda end, code: code == 1 and end.failures == end.device_errors > 0,
    ),
    ExitCode(1, "a test failed or has an error", lambda _, code: code == 1),
    ExitCode(
        _DEVICE_ERROR, "a lease could not be released", lambda end, code: code in _PASSED and end.has("not released")
    ),
    ExitCode(1, "a report could not be written", lambda end, code: code in _PASSED and end.has("not written")),
    ExitCode(
        TOO_MANY_WARNINGS,
        "there are more warnings than --max-warnings allows",
        lambda _, code: code == TOO_MANY_WARNINGS,
    ),
    ExitCode(3, "workers crashed before a test began", lambda end, code: code == 5 and end.has("worker crashed")),
    ExitCode(5, "no tests were found", lambda _, code: code == 5),
    ExitCode(
        0, "a test or plugin ended the run early, without a failure", lambda end, code: code == 0 and end.is_early
    ),
    ExitCode(0, "all is well", lambda _, code: code == 0),
)
"""The exit codes in order of precedence: the first row that applies decides."""

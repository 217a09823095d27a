"""
Shows errors without the code between the test and the lab.

An error of this package is a message, instead of a traceback through our code. Any other error of a driver call is
shown at the line of the test, instead of a traceback through Jumpstarter's clients and their threads.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_jumpstarter.errors import JumpstarterError, StateNotReached

_FULL_TRACEBACK = 2
_STYLES: dict[str, Literal["long", "short"]] = {"auto": "long", "long": "long", "short": "short"}
_PACKAGE = Path(__file__).parents[1]


class ShortErrors:
    """Shortens reports of tests that such an error ended; `-vv` shows everything."""

    def shorten(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Show only the error, and before it the lines of the suite that led to it."""
        excinfo = call.excinfo
        if excinfo is not None and type(excinfo.value).__module__.partition(".")[0] == "pytest_jumpstarter":
            _name(report, excinfo.value)
        if excinfo is None or item.config.get_verbosity() >= _FULL_TRACEBACK:
            return
        if item.config.getoption("fulltrace", default=False):
            return
        if _is_told_by_its_message(excinfo.value):
            report.longrepr = _short(excinfo, item)
        elif (
            report.failed and item.config.getoption("tbstyle", "auto") in _STYLES and _is_of_driver_call(excinfo, item)
        ):
            report.longrepr = _without_driver_clients(excinfo, item)


def _is_told_by_its_message(error: BaseException) -> bool:
    """Return whether people need no traceback: of a state that was not reached, only for the test that tried first."""
    is_told_before = isinstance(error, StateNotReached) and error.__cause__ is None
    return is_told_before or isinstance(error, JumpstarterError)


def _name(report: pytest.TestReport, error: BaseException) -> None:
    """Leave the name of the module out of the short summary, which has only one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = f"{type(error).__name__}: {error}"


def _short(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> Any:
    lines = excinfo.traceback.filter(lambda entry: _is_users(Path(entry.path), item.config.rootpath))
    if lines:
        shown = excinfo.getrepr(style="short", chain=False, tbfilter=lambda _: lines)
        path, number = Path(lines[-1].path), lines[-1].lineno
    else:
        shown = excinfo.getrepr(style="value", chain=False)
        _wrap(shown, item.config)
        path, number = item.path, item.location[1] or 0
    if shown.reprcrash is not None:  # the short summary has only one line for it, so it contains no module name
        shown.reprcrash.message = f"{type(excinfo.value).__name__}: {excinfo.value}"
        shown.reprcrash.path, shown.reprcrash.lineno = str(path), number + 1
    return shown


def _is_of_driver_call(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> bool:
    """Return whether the suite called a driver client directly, and this raised the error."""
    called = None
    for entry in reversed(excinfo.traceback):
        path = Path(entry.path)
        if _is_users(path, item.config.rootpath):
            break
        if not path.is_relative_to(_PACKAGE):  # our own code around a driver call does not count
            called = path
    return called is not None and any(part.startswith("jumpstarter_driver_") for part in called.parts)


def _without_driver_clients(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> Any:
    lines = excinfo.traceback.filter(lambda entry: _is_users(Path(entry.path), item.config.rootpath))
    shown = excinfo.getrepr(
        style=_STYLES[item.config.getoption("tbstyle", "auto")],
        showlocals=item.config.getoption("showlocals", False),
        funcargs=True,
        chain=False,
        tbfilter=lambda _: lines,
    )
    if shown.reprcrash is not None:
        shown.reprcrash.path, shown.reprcrash.lineno = str(lines[-1].path), lines[-1].lineno + 1
    return shown


def _is_users(path: Path, root: Path) -> bool:
    """Return whether a line of a traceback belongs to the suite: its tests, fixtures and hooks."""
    is_installed = "site-packages" in path.parts or path.is_relative_to(_PACKAGE)
    return path.is_relative_to(root) and not is_installed


def _wrap(shown: Any, config: pytest.Config) -> None:
    """Wrap long lines in a terminal; in a log they stay whole, so that they can be searched."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty:
        return
    width = config.get_terminal_writer().fullwidth - 1
    for entry in shown.reprtraceback.reprentries:
        entry.lines[:] = [part for line in entry.lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [line]

"""An error of ours in a test's report, in its own words instead of a traceback through our code."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from pytest_jumpstarter.errors import JumpstarterError

_FULL_TRACEBACK = 2
_PACKAGE = Path(__file__).parents[1]


class ShortErrors:
    """Shorten reports whose cause is one of our errors; `-vv` shows everything."""

    def shorten(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Show the message, after the user's own lines that led to it if there are any."""
        excinfo = call.excinfo
        if excinfo is None or not isinstance(excinfo.value, JumpstarterError):
            return
        if item.config.get_verbosity() < _FULL_TRACEBACK and not item.config.getoption("fulltrace", default=False):
            report.longrepr = _short(excinfo, item)


def _short(excinfo: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> Any:
    lines = excinfo.traceback.filter(lambda entry: _is_users(Path(entry.path), item.config.rootpath))
    if lines:
        shown = excinfo.getrepr(style="short", chain=False, tbfilter=lambda _: lines)
        path, number = Path(lines[-1].path), lines[-1].lineno
    else:
        shown = excinfo.getrepr(style="value", chain=False)
        _wrap(shown, item.config)
        path, number = item.path, item.location[1] or 0
    if shown.reprcrash is not None:  # the summary has room for one line: no module names in it
        shown.reprcrash.message = f"{type(excinfo.value).__name__}: {excinfo.value}"
        shown.reprcrash.path, shown.reprcrash.lineno = str(path), number + 1
    return shown


def _is_users(path: Path, root: Path) -> bool:
    """Return whether a line of a traceback belongs to the suite: its tests, fixtures and hooks."""
    is_installed = "site-packages" in path.parts or path.is_relative_to(_PACKAGE)
    return path.is_relative_to(root) and not is_installed


def _wrap(shown: Any, config: pytest.Config) -> None:
    """Break long lines between words for a person's terminal; a log keeps them whole, to be searched."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty:
        return
    width = config.get_terminal_writer().fullwidth - 1
    for entry in shown.reprtraceback.reprentries:
        entry.lines[:] = [part for line in entry.lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [line]

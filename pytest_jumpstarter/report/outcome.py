"""An error of ours in a test's report, in its own words instead of a traceback through our code."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_jumpstarter.errors import JumpstarterError

_FULL_TRACEBACK = 2


class Outcome:
    """Shorten reports whose cause is one of our errors; `-vv` shows everything."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show the message alone for setup and teardown, and the test's own line with it for the test itself."""
        report = yield
        excinfo = call.excinfo
        if excinfo is None or not isinstance(excinfo.value, JumpstarterError):
            return report
        if item.config.get_verbosity() < _FULL_TRACEBACK and not item.config.getoption("fulltrace", default=False):
            report.longrepr = _short(excinfo, with_line=call.when == "call")
        return report


def _short(excinfo: pytest.ExceptionInfo[BaseException], *, with_line: bool) -> Any:
    """Return the message, after the lines of the test that led to it if asked for."""
    shown = excinfo.getrepr(style="short" if with_line else "value", chain=False)
    if shown.reprcrash is not None:  # the summary has room for one line: no module names in it
        shown.reprcrash.message = f"{type(excinfo.value).__name__}: {excinfo.value}"
    return shown

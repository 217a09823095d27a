"""Drafts of the reports, written while the run goes on: a process that is killed has left what had failed."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from pytest_jumpstarter.host import real_time

_CREDIT = 3.0  # seconds that drafts of a run may take in any case
_SHARE = 20  # beyond that they take a 20th of the time of the run
_AGE = 30.0  # seconds after which a draft is written although nothing has failed


class Drafts:
    """
    Writes drafts when a test has failed, and as the next test begins; before the collection and the first test, too.

    A process that a fault or `os._exit` ends can write nothing any more, and the files of an earlier run would stay.

    Args:
        write: Writes all files.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._start = real_time.monotonic()
        self._spent = 0.0
        self._written = 0.0
        self._has_news = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Write a draft: an import may end the process, too."""
        self._write_draft()
        self._has_news = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Write a draft after a failure, when all others have seen it."""
        result = yield
        if report.failed:
            self._write_draft()
            self._has_news = True  # the next draft names the test that runs then
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logstart(self) -> None:
        """Write a draft if there is something new to write."""
        if self._has_news or real_time.monotonic() - self._written > _AGE:
            self._write_draft()

    def _write_draft(self) -> None:
        """Write a draft, unless drafts have taken too much time of the run."""
        start = real_time.monotonic()
        if self._spent > _CREDIT + (start - self._start) / _SHARE:
            return
        self._write()
        self._has_news = False
        self._written = real_time.monotonic()
        self._spent += self._written - start

"""What leaves a board in no known state: failures of tests, marks, and errors while a state ends."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pytest_jumpstarter.device.call_window import leaves

ENDS_PHASE = (Exception, pytest.fail.Exception, pytest.skip.Exception)
"""What ends a phase of a test, but not the run; those of pytest derive from `BaseException`."""

_NO_FAILURE = (pytest.skip.Exception, pytest.exit.Exception)


def is_failure(error: BaseException | None) -> bool:
    """Return whether the error that ended a phase of a test is a failure; an expected one is, too."""
    return error is not None and not isinstance(error, _NO_FAILURE)


def marked_spoils(item: pytest.Item) -> bool | None:
    """Return what the marks of a test say of `spoils`, the nearest first; None if they say nothing."""
    marks = item.iter_markers("jumpstarter")
    return next((mark.kwargs["spoils"] for mark in marks if "spoils" in mark.kwargs), None)


def is_marked_skipped(item: pytest.Item) -> bool:
    """Return whether a mark skips a test for certain, so that no state ends for it."""
    marks = item.iter_markers("skipif")
    return item.get_closest_marker("skip") is not None or any(True in mark.args[:1] for mark in marks)


def is_of_console(error: BaseException) -> bool:
    """Return whether an error, or every error of a group, says that a console did not answer."""
    from pexpect.exceptions import EOF, TIMEOUT

    return all(isinstance(each, EOF | TIMEOUT) for each in leaves(error))


def excuse(item: pytest.Item, errors: Iterable[BaseException]) -> list[BaseException]:
    """
    Make sections of the errors of consoles, for a board that is in no known state anyway; return the other errors.

    Args:
        item: The test whose report gets the sections.
        errors: What was raised while the state ended, or what stands on it.
    """
    left = []
    for error in errors:
        if is_of_console(error):
            item.add_report_section("teardown", "board state", f"while it ended after a failure: {error}")
        else:
            left.append(error)
    return left

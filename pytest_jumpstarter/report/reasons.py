"""Why a test failed, in one line."""

from __future__ import annotations

import re

import pytest

from pytest_jumpstarter.evidence.record import Record

_PLACE = 'File "'
_TRACEBACK = "Traceback (most recent call last)"
_EXCEPTION = re.compile(r"\s*[A-Za-z_][\w.]*(?::|$)")
_GROUP = re.compile(r"\(\d+ sub-exceptions?\)$")
_IN_GROUP = re.compile(r"^\s*\| ([A-Za-z_][\w.]*: .+)$", re.MULTILINE)
_INNER = 3
_WARNING = re.compile(r"(pytest\.)?Pytest(Unraisable|UnhandledThread|UnhandledCoroutine)\w*Warning: ")
_CAUSE = "The above exception was the direct cause of the following exception"
_DOCTEST = ("Expected:", "Expected nothing", "UNEXPECTED EXCEPTION")


def subtest_of(report: pytest.TestReport) -> str:
    """Return the title of the subtest that a report is of; empty if it is of a whole test."""
    if (context := getattr(report, "context", None)) is None:
        return ""
    values = ", ".join(f"{name}={value}" for name, value in context.kwargs.items())
    return " ".join(filter(None, (f"[{context.msg}]" if context.msg else "", f"({values})" if values else "")))


def reason_of(report: pytest.TestReport, record: Record | None) -> str:
    """Return the reason of a failure: of a device error, of the exception, or of what pytest shows instead."""
    return " ".join(filter(None, (subtest_of(report), _reason(report, record))))


def _reason(report: pytest.TestReport, record: Record | None) -> str:
    if record is not None and "device_error" in record:
        return _first(record["device_error"]["reason"].splitlines())
    crash = getattr(report.longrepr, "reprcrash", None)
    message = _first(str(crash.message).splitlines()) if crash is not None else ""
    if message and (_GROUP.search(message) or _WARNING.match(message)):
        return ": ".join([message, *filter(None, ["; ".join(_inner(message, str(report.longrepr)))])])
    return message or reason_in(str(report.longrepr))


def _inner(message: str, text: str) -> list[str]:
    """Return the first exceptions of a group, or the one that led to a warning about it: they are the real reason."""
    if _GROUP.search(message):
        return [each for each in _IN_GROUP.findall(text) if not _GROUP.search(each)][:_INNER]
    before, cause, _ = text.partition(_CAUSE)
    return [reason_in(before)] if cause else []


def reason_in(text: str) -> str:
    """
    Return the reason in what pytest shows of an error without an exception in a test.

    For a missing fixture, or a file that cannot be imported, lines with `E` say it, sometimes after a place. Other text
    begins with it; that of a doctest after the lines of the example.
    """
    lines = text.splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    if errors:
        return errors[-1] if errors[0].startswith(_PLACE) else _first(errors)
    if any(_TRACEBACK in line for line in lines[:1]):
        return next((line.strip() for line in reversed(lines) if _EXCEPTION.match(line)), lines[0])
    start = next((place for place, line in enumerate(lines) if line.startswith(_DOCTEST)), None)
    if start is not None:
        return " ".join(line.strip() for line in lines[start : start + 4] if line.strip())
    return _first(lines)


def _first(lines: list[str]) -> str:
    return next((line.strip() for line in lines if line.strip()), "")

"""In the process that leases: no secret in reports and logs, whatever a test, a driver or this plugin has said."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType

import pytest

from pytest_jumpstarter import pytest_private
from pytest_jumpstarter.masking import mask, masked

_REPR = "_pytest._code"
_NAMES = ("nodeid", "location", "keywords", "when", "outcome")  # by which processes know a test


class Masked(logging.Filter):
    """
    Masks the reports of tests when all others have put into them what they have, and records of the log.

    The reports are what terminal, JUnit file and every other output of this and other plugins is made from.
    """

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = _show  # of what escapes from pytest
        for handler in pytest_private.log_handlers(config):
            handler.addFilter(self)

    def mask(self, report: pytest.TestReport) -> None:
        """Mask all of a report but what names the test."""
        for name, value in vars(report).items():
            if name not in _NAMES:
                setattr(report, name, masked(value, inside=_REPR))

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask a record, and let it pass."""
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = mask(logging.Formatter().formatException(record.exc_info))
        except Exception:
            return True  # it cannot be shown, as its handler will find out
        if (shown := mask(text)) != text:
            record.msg, record.args = shown, ()
        return True


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error that ends the process, as Python does."""
    sys.stderr.write(mask("".join(traceback.format_exception(kind, error, trace))))

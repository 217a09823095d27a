"""Loggers that a thread makes while pytest goes through all of them."""

from __future__ import annotations

import logging
from typing import Any


class _Loggers(dict[str, Any]):
    """The loggers of the process; while they are gone through, another thread may add one."""

    def values(self) -> Any:
        """Return the loggers that are there now."""
        return list(super().values())


def let_loggers_come() -> None:
    """
    Let a thread import modules, which make loggers, while tests run.

    Reason: pytest goes through all loggers, without a lock, whenever a phase of a test begins.
    """
    manager = logging.Logger.manager
    if not isinstance(manager.loggerDict, _Loggers):
        manager.loggerDict = _Loggers(manager.loggerDict)

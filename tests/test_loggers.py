"""Loggers that a thread makes while pytest goes through all of them."""

from __future__ import annotations

import logging

import pytest

from pytest_jumpstarter.host.loggers import let_loggers_come


def test_loggers_may_come_while_they_are_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that imports, and so makes loggers, does not disturb pytest, which goes through all of them."""
    manager = logging.Logger.manager
    monkeypatch.setattr(manager, "loggerDict", dict(manager.loggerDict))
    let_loggers_come()
    known = manager.loggerDict
    for number, _ in enumerate(manager.loggerDict.values()):
        if number < 3:
            logging.getLogger(f"jumpstarter.came.meanwhile.{number}")
    assert "jumpstarter.came.meanwhile.2" in known
    let_loggers_come()
    assert manager.loggerDict is known

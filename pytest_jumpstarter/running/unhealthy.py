"""Exporters that `--jmp-avoid-unhealthy` takes last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_jumpstarter.history.board_health import BoardHealth, health
from pytest_jumpstarter.history.store import History


def unhealthy_exporters(path: Path, say: Callable[[str], None]) -> frozenset[str]:
    """Return the exporters that are unhealthy in the history at `path`, and say which; none if it cannot be read."""
    try:
        boards = [board for board in health(History(path).leases()) if board.is_unhealthy]
    except Exception:  # whatever it is, it must not change the run, whose end shows it
        return frozenset()
    if boards:
        say(f"unhealthy exporters are leased last (--jmp-avoid-unhealthy): {', '.join(map(_words, boards))}")
    return frozenset(board.exporter for board in boards)


def _words(board: BoardHealth) -> str:
    return f"{board.exporter} ({board.device_errors} of {board.leases} leases had a device error)"

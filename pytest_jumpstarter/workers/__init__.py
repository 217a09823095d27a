"""
Many processes in one run: pytest-xdist's controller process, and its workers, each with devices of its own.

- `hub`: `Hub`, the socket in the controller process, by which workers reach people and the lab.
- `link`: `Link`, a worker's end of it.
- `crew`: `Crew`, what the controller process does for its workers: one run id, one lab, and it sweeps up after them.
- `number`: how many workers `-n auto` means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.workers.crew import Crew

CREW: pytest.StashKey[Crew] = pytest.StashKey()
"""What the controller process of xdist does for its workers."""

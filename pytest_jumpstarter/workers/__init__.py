"""
Many processes in one run: pytest-xdist's controller process, and its workers, each with devices of its own.

- `controller`: what the controller process does for its workers: one run id, one lab; it gives back what they leave.
- `channel`: the socket between the controller process and its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.workers.controller import WorkersController

WORKERS: pytest.StashKey[WorkersController] = pytest.StashKey()
"""What the controller process of xdist does for its workers."""

NOTE: pytest.StashKey[str] = pytest.StashKey()
"""A line for the header that says why `-n auto` is what it is."""

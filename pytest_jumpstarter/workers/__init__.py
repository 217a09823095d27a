"""
Runs with pytest-xdist: the controller process, and its workers, each with its own devices.

- `controller`: what the controller process does for its workers: one run id, one lab; it releases what they leave.
- `refusals`: the exporters that an access policy refuses, learned once for all workers and for later runs.
- `channel`: the socket between the controller process and its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.workers.controller import WorkersController

WORKERS: pytest.StashKey[WorkersController] = pytest.StashKey()
"""The workers of the run; set in xdist's controller process."""

NOTE: pytest.StashKey[str] = pytest.StashKey()
"""A header line that explains the number of workers for `-n auto`."""

EXPECTED = "jumpstarter_expected_seconds"
"""The key in xdist's `workerinput` for how long each test takes, with `--jmp-order longest`."""

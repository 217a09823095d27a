"""The process that tests: what happens from the first test that asks for a device to the end of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
"""The run of this process; there from the first test that asks for a device on."""

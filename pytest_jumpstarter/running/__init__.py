"""
The process that tests: from the first test that asks for a device to the end of the run.

- `start`: starts the run and registers what follows. `run`: `Run`: what a run has from a lab.
- `current_test`: the test that runs, its phase, and since when.
- `device_fixtures`: the device fixtures that are set up, who looks them up, and how to end them early.
- `schedule`: what is leased together, and what goes back after which test.
- `pipeline`: what becomes of the report of each phase of a test, step by step.
- `verdict`: test failure, device error or configuration error.
- `retries`: runs a test again after a device error. `hold_on_failure`: leaves the device of a failed test to people.
- `skip_without_device`: `--jmp-no-device skip`.
- `hook_events`: passes on what happens to leases and devices: to hooks, the terminal, other workers.
- `resources`: what a device needs of this machine: file descriptors and threads.
- `waits`: the table of all waits of the package, and what bounds them.
- `interrupt`: ends a test that is blocked because its board is gone. `exit_code`: the exit code of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.running.run import Run

RUN: pytest.StashKey[Run] = pytest.StashKey()
"""The run of this process; there from the first test that asks for a device on."""

"""
The process that tests: from the first test that requests a device to the end of the run.

- `start`: starts the run and registers the plugins that it needs. `run`: `Run`: all devices and leases of a run.
- `current_test`: the test that runs, its phase, and the start of each phase.
- `device_fixtures`: the device fixtures that are set up, their users, and their early teardown.
- `schedule`: which devices are leased together, and when each device is released.
- `pipeline`: changes the report of each phase of a test, step by step.
- `verdict`: test failure, device error or configuration error.
- `retries`: runs a test again after a device error. `hold_on_failure`: keeps the device of a failed test for people.
- `skip_without_device`: `--jmp-no-device skip`.
- `hook_events`: passes events of leases and devices to hooks, to the terminal and to other workers.
- `earlier_runs`: how long the tests that wait took in earlier runs.
- `unhealthy`: the exporters that `--jmp-avoid-unhealthy` leases last.
- `forks`: warns of forks while gRPC handles them; lets them wait while a thread imports.
- `resources`: the file descriptors and threads that a device needs.
- `waits`: the table of all waits of the package, each with its bound.
- `interrupt`: ends a test that is blocked because its board is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.running.run import Run
    from pytest_jumpstarter.running.schedule import Schedule

RUN: pytest.StashKey[Run] = pytest.StashKey()
"""The run of this process, from the first test that requests a device."""

SCHEDULE: pytest.StashKey[Schedule] = pytest.StashKey()
"""Which test needs which devices; set if a collected test requests a device."""

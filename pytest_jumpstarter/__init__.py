"""
Lease a real board from a Jumpstarter lab for the tests that need it, and always give it back.

The map, from a test downwards:

- `plugin`: the pytest entry point: options, fixtures, hook calls. `hooks`: the hooks.
- `options`: the option table. `settings`: each value in force, and where it came from.
- `session`: what joins a run to pytest. `run`: what one pytest run has from a lab. `site`: that lab.
- `workers`: the processes of pytest-xdist, and the one that looks after them. `signals`: an orderly stop.
- `roles`: what each device fixture and each test asks for. `needs`: skips tests whose device lacks what they need.
- `dut`: the fixture. `drop_in`: a base class in place of `jumpstarter-testing`'s. `each`: tests on several boards.
- `check`: whether the lab can serve the tests, asked beforehand. `asked`: what each test asks for.
- `order`: the order of the tests. `schedule`: what is leased together, and until when.
- `devices_of`: which devices a test has, before it runs and as it runs.
- `running`: the test at hand, the verdict on it, and what becomes of its report; runs it again after a device error.
- `evidence`: the record of ours on the reports of tests.
- `report`: what people see. `pytest_private`: the touches of pytest's private API.
- `leasing`: the life of a lease, and the sources that devices come from.
- `device`: tunnel, `Device`, `Console`.
- `client.v1`: the client for `jumpstarter.client.v1`, usable alone.
- `errors`: every error. `masking`: no secret in any output. `selector`, `units`: label selectors and durations.
- `origin`: the commit, build and job.
- `lab`: the embedded lab, a server in its own right: `python -m pytest_jumpstarter.lab`.

Imports point downwards only, and nothing heavy is imported before a test asks for a device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.drop_in import JumpstarterTest
    from pytest_jumpstarter.leasing import LeaseRequest
    from pytest_jumpstarter.plugin import device_fixture
    from pytest_jumpstarter.run import Run

__all__ = ["Console", "Device", "JumpstarterTest", "LeaseRequest", "Run", "device_fixture"]

_HOMES = {
    "Console": "device.console",
    "Device": "device",
    "JumpstarterTest": "drop_in",
    "LeaseRequest": "leasing",
    "Run": "run",
    "device_fixture": "plugin",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

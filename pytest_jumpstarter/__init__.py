"""
Lease a real board from a Jumpstarter lab for the tests that need it, and always give it back.

The map, from a test downwards:

- `plugin`: the pytest entry point: options, hook calls. `hooks`: the hooks for suites and other plugins.
- `fixtures`: `jumpstarter`, `console`, `device_fixture`. `dut`: the fixture of that name. `jumpstarter_testing`: a base
  class in place of that of `jumpstarter-testing`.
- `collection`: before a test runs: check, order, parameters, requirements.
- `running`: the process that tests: run, schedule, verdict, retries, exit code.
- `workers`: pytest-xdist: the controller process, and the channel between it and its workers.
- `report`: what people and machines read, in the process that prints.
- `evidence`: what this plugin puts on the reports of tests.
- `devices_of`: which devices a test has. `roles`: what device fixtures and markers ask for.
- `lab_access`: the lab of a run: client config, client, embedded lab.
- `leasing`: the life of a lease, and the sources that devices come from. No pytest here.
- `device`: the connection to an exporter, `Device`, `Console`. No pytest here.
- `client`: `client.v1`, the client for `jumpstarter.client.v1`. No pytest here; usable alone.
- `lab`: the embedded lab, a server in its own right: `python -m pytest_jumpstarter.lab`.
- `options`: the option table. `settings`: each value in force, and its source.
- `errors`: every error. `masking`: no secret in any output. `selector`: label selectors. `durations`: `1h30m`.
- `ci`: commit, build and job of the run. `signals`: signals turned into an orderly stop.
- `pytest_private`: the touches of pytest's private API, each with its reason.

Imports point downwards only, and nothing heavy is imported before a test asks for a device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.fixtures import device_fixture
    from pytest_jumpstarter.jumpstarter_testing import JumpstarterTest
    from pytest_jumpstarter.leasing import LeaseRequest
    from pytest_jumpstarter.running.run import Run

__all__ = ["Console", "Device", "JumpstarterTest", "LeaseRequest", "Run", "device_fixture"]

_HOMES = {
    "Console": "device.console",
    "Device": "device",
    "JumpstarterTest": "jumpstarter_testing",
    "LeaseRequest": "leasing",
    "Run": "running.run",
    "device_fixture": "fixtures",
}


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin where somebody names the package instead of it: `-p pytest_jumpstarter`."""
    pluginmanager.import_plugin("jumpstarter", consider_entry_points=True)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

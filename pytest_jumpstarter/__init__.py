"""
A pytest plugin that leases boards from a Jumpstarter lab for the tests that need them, and always releases them.

The map, from a test downwards:

- `plugin`: the pytest entry point: options, hook calls. `hooks`: the hooks for suites and other plugins.
- `fixtures`: `jumpstarter`, `console`, `record_metric`, and `device_fixture`, which also makes `dut`.
  `jumpstarter_testing`: a replacement for the base class of the package `jumpstarter-testing`.
- `collection`: before a test runs: check, order, parameters, requirements.
- `states`: board states: fixtures whose functions lead a board into them.
- `running`: the process that tests: run, schedule, verdict, retries.
- `workers`: pytest-xdist: the controller process, and the channel between it and its workers.
- `report`: output for people and machines, in the process that prints.
- `evidence`: what this plugin adds to pytest's reports of tests.
- `devices_of`: which devices a test has and wants. `roles`: what device fixtures and markers request.
- `lab_access`: access to the lab: client config, client, embedded lab.
- `leasing`: the life of a lease, and the sources of devices. It does not import pytest.
- `history`: what runs learned, as verdicts over many runs. It imports neither pytest nor the lab.
- `device`: the connection to an exporter, `Device`, `Console`. It does not import pytest.
- `client`: `client.v1`, the client for `jumpstarter.client.v1`. It does not import pytest and can be used alone.
- `lab`: the embedded lab, which also runs as a server: `python -m pytest_jumpstarter.lab`.
- `types`: writes classes of typed boards: `python -m pytest_jumpstarter.types`.
- `options`: the option table. `option_values`: what their texts mean. `settings`: each value in force, and its source.
- `errors`: every error. `option_errors`: those that every run loads. `selector`: label selectors. `durations`: `1h30m`.
- `masking`: makes the words of others safe.
- `signals`: releases leases when a signal ends the run.
- `host`: the process whose guest this plugin is: how gRPC is imported there.
- `jumpstarter_private`: all uses of Jumpstarter's private API, each with its reason.
- `pytest_private`: all uses of pytest's private API, each with its reason.

Imports point downwards only. Nothing heavy is imported before a test requests a device.
`docs/architecture.md` follows six examples through these rooms.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.board import Board
    from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout, Result
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.device.prompt_shells import PlainShell, ZephyrShell
    from pytest_jumpstarter.device.shell import Shell, UBootShell
    from pytest_jumpstarter.device.ssh_shell import SshShell
    from pytest_jumpstarter.errors import BoardRebooted, ConsoleGarbled, MetricOutOfLimits, StateNotReached
    from pytest_jumpstarter.evidence.metrics import MetricRecorder
    from pytest_jumpstarter.fixtures import device_fixture
    from pytest_jumpstarter.jumpstarter_testing import JumpstarterTest
    from pytest_jumpstarter.leasing import LeaseRequest
    from pytest_jumpstarter.running.run import Run
    from pytest_jumpstarter.states.fixture import board_state

__all__ = [
    "Board",
    "BoardRebooted",
    "CommandFailed",
    "CommandTimeout",
    "Console",
    "ConsoleGarbled",
    "Device",
    "JumpstarterTest",
    "LeaseRequest",
    "MetricOutOfLimits",
    "MetricRecorder",
    "PlainShell",
    "Result",
    "Run",
    "Shell",
    "SshShell",
    "StateNotReached",
    "UBootShell",
    "ZephyrShell",
    "board_state",
    "device_fixture",
]

_HOMES = {
    "Board": "device.board",
    "BoardRebooted": "errors",
    "CommandFailed": "device.command",
    "CommandTimeout": "device.command",
    "Console": "device.console",
    "ConsoleGarbled": "errors",
    "Device": "device",
    "JumpstarterTest": "jumpstarter_testing",
    "LeaseRequest": "leasing",
    "MetricOutOfLimits": "errors",
    "MetricRecorder": "evidence.metrics",
    "PlainShell": "device.prompt_shells",
    "Result": "device.command",
    "Run": "running.run",
    "Shell": "device.shell",
    "SshShell": "device.ssh_shell",
    "StateNotReached": "errors",
    "UBootShell": "device.shell",
    "ZephyrShell": "device.prompt_shells",
    "board_state": "states.fixture",
    "device_fixture": "fixtures",
}


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin if the package is named instead of it: `-p pytest_jumpstarter`."""
    pluginmanager.import_plugin("jumpstarter", consider_entry_points=True)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

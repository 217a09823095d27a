"""
Hooks that a conftest.py or another plugin may implement.

Each is called in the process that has the lease, in the thread of the test, unless its docstring says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Lease
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.evidence.artifacts import Folder
    from pytest_jumpstarter.leasing import LeaseRequest


@pytest.hookspec(firstresult=True)
def pytest_jumpstarter_client(config: pytest.Config) -> Client | None:
    """
    Return your own client of the lab controller, such as one with a token from a vault, or of a subclass.

    Called when a process first connects to a lab controller, but not with the embedded lab; with `-n auto` also before
    the workers start. The plugin does not close the client. The config that the client was made from
    (`Client.from_config`) says which driver clients may be imported; without a config, JMP_DRIVERS_ALLOW does.

    Args:
        config: pytest's config.

    Returns:
        The client; None to use the client config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_request(request: LeaseRequest, role: str, config: pytest.Config) -> None:
    """
    Change the selector, exporter, duration or tags of a lease before it is requested.

    Args:
        request: The request; assign to its attributes.
        role: The name of the fixture that needs the device.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_acquired(lease: Lease, role: str, config: pytest.Config) -> None:
    """
    React to a new lease: it and its exporter are Ready, the device is not connected yet.

    Args:
        lease: The lease; `lease.exporter` is the name of its exporter.
        role: The name of the fixture that needs the device.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_device_ready(device: Device, config: pytest.Config) -> None:
    """
    Prepare a device after it is connected, once per lease: flash it, power it on.

    An exception is an error in the setup of the test that requested the device first; the lease is released.

    Args:
        device: The device, as the fixture yields it.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_device_release(device: Device, config: pytest.Config) -> None:
    """
    Leave a device in order before it is disconnected: power it off.

    The lease is released even if this raises.

    Args:
        device: The device, still connected.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_released(lease: Lease, role: str, config: pytest.Config) -> None:
    """
    React to the end of a lease, after the lab controller has confirmed it.

    Args:
        lease: The lease as it was last read.
        role: The name of the fixture that had the device.
        config: pytest's config.
    """


@pytest.hookspec(firstresult=True)
def pytest_jumpstarter_classify_error(error: BaseException, item: pytest.Item) -> str | None:
    """
    Return the reason if an error that ended a phase of a test is a failure of the lab.

    Called for errors that are not already known as failures of the lab, except assertions. Be sure of it: if a failure
    of the product is reported as one of the lab, nobody will look for it.

    Args:
        error: The exception.
        item: The test.

    Returns:
        The reason as text for people; None if the lab did not fail.
    """


@pytest.hookspec
def pytest_jumpstarter_collect_evidence(folder: Folder, device: Device, item: pytest.Item) -> None:
    """
    Collect evidence of why a test failed, with `--jmp-artifacts`, before the teardown changes the board.

    Called for each device of a failed test, in another thread; all calls together may take 10 seconds.

    Args:
        folder: The folder of the test: `folder.add(name, text or bytes)` writes a file.
        device: The device, still connected.
        item: The test.
    """

"""
Hooks that a conftest.py or another plugin may implement.

Each is called in the process that holds the lease, in the test's thread.
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
    Bring your own client of the lab controller: one with a token from a vault, or of a class of your own.

    Called when a process first speaks to a lab controller that is not the embedded lab's, and for `-n auto` before.
    The client stays yours to close. Which driver clients may be imported is said by the config that it was made from
    (`Client.from_config`), else by JMP_DRIVERS_ALLOW.

    Args:
        config: pytest's config.

    Returns:
        The client; None for the one of the client config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_request(request: LeaseRequest, role: str, config: pytest.Config) -> None:
    """
    Change a lease's selector, exporter, duration or tags before it is asked for.

    Args:
        request: The request; assign to its attributes.
        role: The name of the fixture that needs the device.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_acquired(lease: Lease, role: str, config: pytest.Config) -> None:
    """
    Hear that a lease is Ready, and its exporter too; the device is not connected yet.

    Args:
        lease: The lease; `lease.exporter` is the name of the board's exporter.
        role: The name of the fixture that needs the device.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_device_ready(device: Device, config: pytest.Config) -> None:
    """
    Prepare a connected device once per lease: flash it, power it on.

    An exception here is an error in the setup of the test that asked first; the lease is given back.

    Args:
        device: The device, as the fixture yields it.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_device_release(device: Device, config: pytest.Config) -> None:
    """
    Put a device away before it is disconnected: power it off.

    The lease is given back even if this raises.

    Args:
        device: The device, still connected.
        config: pytest's config.
    """


@pytest.hookspec
def pytest_jumpstarter_lease_released(lease: Lease, role: str, config: pytest.Config) -> None:
    """
    Hear that a lease has ended and the lab controller confirmed it.

    Args:
        lease: The lease as last seen.
        role: The name of the fixture that had the device.
        config: pytest's config.
    """


@pytest.hookspec(firstresult=True)
def pytest_jumpstarter_classify_error(error: BaseException, item: pytest.Item) -> str | None:
    """
    Say that an error which ended a phase of a test is the lab's fault.

    Asked for errors that are not known to be the lab's, assertions aside. Be sure: a fault of the product that is
    taken for one of the lab goes unseen.

    Args:
        error: What was raised.
        item: The test.

    Returns:
        The reason, in words for people; None if it is not the lab's fault.
    """


@pytest.hookspec
def pytest_jumpstarter_collect_evidence(folder: Folder, device: Device, item: pytest.Item) -> None:
    """
    Keep what tells why a test failed, with `--jmp-artifacts`: before a teardown changes the board.

    Called for each device of a test that fails, in a thread of its own, and for 10 seconds at most for all of them.

    Args:
        folder: The test's: `folder.add(name, text or bytes)` keeps a file.
        device: The device, still connected.
        item: The test.
    """

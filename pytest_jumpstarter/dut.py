"""The fixture `dut`. It has its own module, so that it is not registered if another plugin has a `dut`."""

from __future__ import annotations

from pytest_jumpstarter.fixtures import device_fixture

dut = device_fixture()

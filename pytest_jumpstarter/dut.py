"""The fixture `dut`, a module of its own so that it can stand back for another plugin's."""

from __future__ import annotations

from pytest_jumpstarter.fixtures import device_fixture

dut = device_fixture()

"""A second device."""

from __future__ import annotations

from pytest_jumpstarter import device_fixture

collect_ignore = ["everyday", "linux", "qemu", "virtual"]  # suites of their own, with labs of their own

gateway = device_fixture(selector="kind=gateway")

"""Evidence that is collected by default, if the device has drivers for it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.evidence.artifacts import Folder

DriverClient: TypeAlias = Any
"""A client of Jumpstarter; its class is known in the lab only."""

_T = TypeVar("_T")

_POWER = "jumpstarter_driver_power.client"
_VIDEO = "jumpstarter_driver_ustreamer.client"


class BuiltInEvidence:
    """Collects power readings and screenshots."""

    def pytest_jumpstarter_collect_evidence(self, folder: Folder, device: Device) -> None:
        """Write `power.json` and `screenshot-PATH.jpg`; if a driver fails, write its error instead."""
        powers = {path: _result_or_error(read_power, driver) for path, driver in _drivers(device, _POWER)}
        if powers:
            folder.add("power.json", json.dumps(powers, indent=1))
        for path, driver in _drivers(device, _VIDEO):
            picture = _result_or_error(take_picture, driver)
            folder.add(f"screenshot-{path}.{'jpg' if isinstance(picture, bytes) else 'txt'}", picture)


def read_power(driver: DriverClient) -> dict[str, float]:
    """Return the first reading of a power driver, in volts and amperes."""
    readings = driver.read()
    try:
        first = next(readings)
        return {"voltage": first.voltage, "current": first.current}
    finally:
        readings.close()


def take_picture(driver: DriverClient) -> bytes:
    """Return a picture from a video driver, as JPEG."""
    return b64decode(driver.call("snapshot"))  # the client's own method needs an image library


def _result_or_error(function: Callable[[DriverClient], _T], driver: DriverClient) -> _T | str:
    try:
        return function(driver)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


def _drivers(device: Device, module: str) -> Iterator[tuple[str, DriverClient]]:
    """Yield path and client of each driver whose class is in the module; of derived classes only drivers in use."""
    drivers = device.drivers
    for path in drivers.usable([*drivers.reported(module), *drivers.built_of(module)]):
        yield path, drivers[path]

"""Evidence that is collected without being asked for, where the device has drivers that offer it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.evidence.artifacts import Folder

_POWER = "jumpstarter_driver_power.client"
_VIDEO = "jumpstarter_driver_ustreamer.client"


class BuiltInEvidence:
    """Reads the power, and takes a picture of the screen."""

    def pytest_jumpstarter_collect_evidence(self, folder: Folder, device: Device) -> None:
        """Keep `power.json` and `screenshot.jpg`; a driver that fails leaves its words in their place."""
        powers = {path: _said(read_power, driver) for path, driver in _drivers(device, _POWER)}
        if powers:
            folder.add("power.json", json.dumps(powers, indent=1))
        for path, driver in _drivers(device, _VIDEO):
            picture = _said(take_picture, driver)
            is_picture = isinstance(picture, bytes)
            folder.add(f"screenshot-{path}.{'jpg' if is_picture else 'txt'}", picture if is_picture else str(picture))


def read_power(driver: Any) -> dict[str, float]:
    """Return the first reading of a power driver: volts and amperes."""
    readings = driver.read()
    try:
        first = next(readings)
        return {"voltage": first.voltage, "current": first.current}
    finally:
        readings.close()


def take_picture(driver: Any) -> bytes:
    """Return what a video driver sees, as JPEG."""
    return b64decode(driver.call("snapshot"))  # whose own method wants a library for pictures


def _said(ask: Any, driver: Any) -> Any:
    try:
        return ask(driver)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


def _drivers(device: Device, module: str) -> Iterator[tuple[str, Any]]:
    """Yield path and client of each driver of a class of the module; of derived ones those that were used."""
    drivers = device.drivers
    for path in drivers.usable([*drivers.reported(module), *drivers.built_of(module)]):
        yield path, drivers[path]

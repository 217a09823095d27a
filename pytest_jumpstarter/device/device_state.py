"""`DeviceState`: `dut.state`, which of the suite's board states a device is in."""

from __future__ import annotations

from typing import Any

from pytest_jumpstarter.errors import ConfigError


class DeviceState:
    """
    Which of the suite's board states a device is in.

    This class is for a device for which the suite has no board states; the room `states` derives from it.

    Args:
        device: The device, as messages name it.
        driver: The expression for the driver named `state`, which this object hides; empty if there is none.
    """

    def __init__(self, device: str, driver: str = "") -> None:
        self._device = device
        self._driver = driver

    @property
    def current(self) -> str | None:
        """The name of the state that the device is in; None if nobody knows."""
        return None

    def spoil(self, why: str) -> None:
        """Do as after a failure: when the test is over the state ends, and the next transition starts from a root."""

    def keep(self) -> None:
        """Keep the state even if this test fails."""

    def forget(self) -> None:
        """Forget where the device is, and which states it could not reach; they are tried again."""

    def reach(self, name: str) -> Any:
        """
        Bring the device into a state, in a test that walks through several; return the value of the state.

        Only for a test that requests no state of this device. What follows the `yield` of the state runs before the
        next call, or when the test ends.

        Raises:
            ConfigError: There is no such state, or the test stands on a state.
            StateNotReached: The device did not get there.
        """
        raise ConfigError(f"{self._device} has no state {name!r}: the suite has no @board_state for it")

    def __getattr__(self, name: str) -> Any:
        __tracebackhide__ = True  # pytest shows the line of the test
        if name.startswith("__"):
            raise AttributeError(name)
        hint = f"; the driver 'state' is {self._driver}" if self._driver else ""
        raise AttributeError(f"the board state of {self._device} has no attribute {name!r}{hint}", name=name, obj=None)

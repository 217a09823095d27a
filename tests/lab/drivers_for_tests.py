"""Drivers that go wrong, for lab files of tests."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_driver_power.driver import MockPower


@dataclass(kw_only=True)
class Broken(MockPower):
    """A driver whose device is not there."""

    def __post_init__(self) -> None:
        raise ConnectionRefusedError("no relay at /dev/ttyUSB7\nis it plugged in?")


@dataclass(kw_only=True)
class Blocking(MockPower):
    """A driver that blocks its process for ever, and says when it does."""

    flag: str

    def __post_init__(self) -> None:
        Path(self.flag).touch()
        time.sleep(3600)


@dataclass(kw_only=True)
class Dying(MockPower):
    """A driver that takes its process with it, when a file says so."""

    flag: str

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's drivers carry no types
        if os.path.exists(self.flag):
            print("relay board on fire", flush=True)
            os._exit(3)

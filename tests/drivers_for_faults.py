"""A driver whose calls can be counted, and take as long as a test wants."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from jumpstarter.driver import export
from jumpstarter_driver_power.driver import MockPower


@dataclass(kw_only=True)
class Counting(MockPower):
    """Power whose calls leave a line each in `file` when they begin."""

    file: str

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def count(self, name: str, duration: float) -> str:
        """Note `name`, take `duration` seconds, and return it."""
        with Path(self.file).open("a") as lines:
            lines.write(f"{name}\n")
        time.sleep(duration)
        return name

"""A driver that takes its exporter with it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from drivers_for_faults import Counting
from jumpstarter.driver import export


@dataclass(kw_only=True)
class Fragile(Counting):
    """Power with calls that are counted, and one that ends the exporter's process."""

    @export  # type: ignore[untyped-decorator]  # Jumpstarter's drivers carry no types
    def die(self) -> None:
        """End the process as a crash does."""
        os.kill(os.getpid(), signal.SIGKILL)

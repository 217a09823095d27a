"""What the lab could not give in time: nobody waits for the same device twice in one run."""

from __future__ import annotations

from collections.abc import Callable

from pytest_jumpstarter.client.v1 import Lease
from pytest_jumpstarter.errors import LeaseTimeout
from pytest_jumpstarter.leasing.request import Wanted


class Refusals:
    """Remembers for which devices a wait was in vain."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, ...], LeaseTimeout] = {}

    def heed(self, wanted: Wanted, acquire: Callable[[], Lease]) -> Lease:
        """
        Return what `acquire` returns, unless the same device was waited for before.

        Raises:
            LeaseTimeout: As the first time, at once; it says when that was.
        """
        device = (wanted.selector, wanted.exporter, wanted.lease)
        if device in self._known:
            raise self._known[device].with_traceback(None)
        try:
            return acquire()
        except LeaseTimeout as exc:
            self._known[device] = exc
            raise

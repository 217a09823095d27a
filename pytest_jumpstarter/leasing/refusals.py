"""What the lab could not give in time: nobody waits for the same device twice in one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_jumpstarter.errors import LeaseTimeout
from pytest_jumpstarter.leasing.lease_request import Wanted


class Refusals:
    """Remembers for which devices a wait was in vain."""

    def __init__(self) -> None:
        self._known: dict[frozenset[tuple[str | None, ...]], LeaseTimeout] = {}

    @contextmanager
    def heeded(self, wanted: Sequence[Wanted]) -> Iterator[None]:
        """
        Let devices be acquired, unless the same were waited for before.

        Raises:
            LeaseTimeout: As the first time, at once; it says when that was.
        """
        devices = frozenset((each.selector, each.exporter, each.lease) for each in wanted)
        if devices in self._known:
            raise self._known[devices].with_traceback(None)
        try:
            yield
        except LeaseTimeout as exc:
            self._known[devices] = exc
            raise

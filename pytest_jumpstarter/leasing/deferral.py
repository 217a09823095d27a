"""Boards of a test that failed, kept back until it is known whether the run ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.held import Held


class Deferral:
    """
    Keeps back what would put boards away, from `begin` to `end`.

    Attributes:
        held: The leases of these boards.
    """

    def __init__(self) -> None:
        self.held: list[Held] = []
        self._ways_back: list[ExitStack] = []

    def begin(self, held: list[Held]) -> bool:
        """Keep these back from now on; tell whether there are any."""
        self.held = held
        return bool(held)

    @contextmanager
    def keep_back(self, held: list[Held], stack: ExitStack) -> Iterator[None]:
        """On the way out, take what is in `stack` if one of the boards is to be kept back."""
        try:
            yield
        finally:
            if any(each in self.held for each in held):
                self._ways_back.append(stack.pop_all())

    def end(self) -> None:
        """Put away and give back what was kept back."""
        self.held = []
        with ExitStack() as stack:
            while self._ways_back:
                stack.callback(self._ways_back.pop().close)

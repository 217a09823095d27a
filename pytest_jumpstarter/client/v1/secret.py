"""Text that works everywhere and shows itself nowhere."""

from __future__ import annotations

from typing import Self

from pytest_jumpstarter.masking import learn


class Secret(str):
    """
    A `str` on the wire, and `'***'` wherever Python shows a value.

    A traceback with local variables (`pytest --showlocals`) prints the `repr` of each; this one tells nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Token(Secret):
    """What opens something: a secret that no output of ours shows, whoever put it there."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Let it be masked from now on."""
        learn(value)
        return super().__new__(cls, value)

"""Secret texts, which are never shown."""

from __future__ import annotations

from typing import Self

from pytest_jumpstarter.masking import learn


class Secret(str):
    """
    A `str` whose repr is `'***'`.

    A traceback with local variables (`pytest --showlocals`) prints the repr of each variable.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Token(Secret):
    """A token: a secret that this package also masks in all its output, whoever wrote it."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Mask the token in all output from now on."""
        learn(value)
        return super().__new__(cls, value)

"""Text that works everywhere and shows itself nowhere."""

from __future__ import annotations


class Secret(str):
    """
    A token: a `str` on the wire, and `'***'` wherever Python shows a value.

    A traceback with local variables (`pytest --showlocals`) prints the `repr` of each; this one tells nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

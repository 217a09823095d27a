"""
`Rule`: how much of a text that grows must be searched again for a regular expression.

pexpect searches all that a board said since the last match again for each piece that comes. For most patterns that is
not needed. A rule is derived from the parsed pattern, and says of a match that did not exist before:

- how long it can be, or how many line ends it can contain, so where it begins at the earliest;
- which parts, each of a limited length, it must contain: as long as one is missing, there is no match.

A pattern of which nothing is known is searched for in the whole text, as pexpect does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias

LONGEST = 1 << 14
"""Characters; a match that may be longer counts as one without a limit."""

_MOST_LINE_ENDS = 8
_LONGEST_LITERAL_IS = 3  # characters; shorter ones are in every text

Node: TypeAlias = Any
"""What the parser of `re` gives: an item, its operator, its value; their shapes depend on the operator."""

_parser: Node
_compiler: Node
try:  # private modules; without them each pattern is searched for in the whole text
    _parser, _compiler = import_module("re._parser"), import_module("re._compiler")
except ImportError:
    _parser = _compiler = None

_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")
_OPAQUE = ("GROUPREF", "GROUPREF_EXISTS", "GROUPREF_IGNORE", "POSSESSIVE_REPEAT", "ATOMIC_GROUP")


@dataclass(frozen=True, slots=True)
class Part:
    """
    A part of limited length of a pattern.

    Attributes:
        regex: Matches it.
        reach: The most characters that it is long, or looks at.
        literal: Is in each match of it; empty if nothing is.
    """

    regex: re.Pattern[str]
    reach: int
    literal: str

    def find(self, text: str, begin: int) -> int:
        """Return where the part is at or after `begin`; -1 if it is not there."""
        if self.literal and text.find(self.literal, begin) < 0:
            return -1
        found = self.regex.search(text, begin)
        return found.start() if found else -1


@dataclass(frozen=True, slots=True)
class Way:
    """
    One alternative of a pattern.

    Attributes:
        reach: The most characters that a match is long, or looks at; None if there is no limit.
        line_ends: The most line ends in a match; None if there is no limit.
        parts: What a match contains, in this order.
        begins: Whether a match begins with the first part.
        ends: Whether a match ends with the last part, or would without what may follow.
        ahead: The most characters after its end that a match looks at.
    """

    reach: int | None = None
    line_ends: int | None = None
    parts: tuple[Part, ...] = ()
    begins: bool = False
    ends: bool = False
    ahead: int = 0


ANYWHERE = Way()
"""Of a pattern of which nothing is known."""


@lru_cache(maxsize=256)
def ways_of(pattern: re.Pattern[str]) -> tuple[Way, ...]:
    """Return the alternatives of a pattern."""
    if _parser is None:
        return (ANYWHERE,)
    try:
        parsed = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
        flags = pattern.flags | parsed.state.flags
        return tuple(_Items(parsed.state, flags, items).way() for items in _alternatives(list(parsed)))
    except (AttributeError, TypeError, ValueError, RecursionError, re.error):
        return (ANYWHERE,)  # another version of the parser


def _alternatives(items: list[Node]) -> Iterator[list[Node]]:
    items = list(_flat(items))
    if len(items) == 1 and str(items[0][0]) == "BRANCH":
        for branch in items[0][1][1]:
            yield from _alternatives(list(branch))
    else:
        yield items


def _flat(items: Iterable[Node]) -> Iterator[Node]:
    """Yield the items of a sequence, and those of its groups in their place."""
    for op, value in items:
        if str(op) == "SUBPATTERN" and not (value[1] or value[2]):
            yield from _flat(value[3])
        else:
            yield op, value


def _inner(items: Iterable[Node]) -> Iterator[tuple[str, Node]]:
    """Yield all items at any depth."""
    for op, value in items:
        yield str(op), value
        for child in _children(str(op), value):
            yield from _inner(child)


def _children(op: str, value: Node) -> Iterator[Node]:
    if op == "BRANCH":
        yield from value[1]
    elif op in ("SUBPATTERN", *_REPEATS, "POSSESSIVE_REPEAT"):
        yield value[-1]
    elif op in ("ASSERT", "ASSERT_NOT"):
        yield value[1]
    elif op == "ATOMIC_GROUP":
        yield value


class _Items:
    """
    One alternative as the parser of `re` gives it: a flat list of items.

    Args:
        state: The parser's, which has the groups.
        flags: Those of the pattern.
        items: The list.
    """

    def __init__(self, state: Node, flags: int, items: list[Node]) -> None:
        self._state = state
        self._flags = flags
        self._items = items

    def way(self) -> Way:
        """Return what is known of the alternative."""
        if any(op in _OPAQUE for op, _ in _inner(self._items)) or any(
            op in ("ASSERT", "ASSERT_NOT") and self._width([(op, value)]) is None for op, value in _inner(self._items)
        ):
            return ANYWHERE
        line_ends = self._line_ends(self._items)
        reach = self._width(self._items)
        if reach is not None:
            return Way(reach, line_ends, (self._part(self._items, reach),), begins=True, ends=True)
        parts, begins, ends = self._parts()
        return Way(None, line_ends, parts, begins=begins, ends=ends, ahead=self._ahead(self._items))

    def _parts(self) -> tuple[tuple[Part, ...], bool, bool]:
        """Return the parts between what has no limit; whether a match begins, and ends, with one."""
        found: list[list[Node]] = [[]]
        for op, value in self._items:
            if self._width([(op, value)]) is not None:
                found[-1].append((op, value))
                continue
            least = self._least(op, value)
            found[-1].extend(least or ())  # what is repeated without a limit is there so often at least
            found.append(list(least or ()))
        if self._width([self._items[-1]]) is None and self._least(*self._items[-1]) is not None:
            found.pop()  # nothing follows: the shortest match decides whether there is one
        parts = [self._part(items, reach) if (reach := self._least_width(items)) else None for items in found]
        return tuple(filter(None, parts)), parts[0] is not None, parts[-1] is not None

    def _least(self, op: Node, value: Node) -> list[Node] | None:
        """Return the shortest form of an item without a limit; None if it is unknown."""
        if str(op) not in _REPEATS or (value[0] and self._width(value[2]) is None):
            return None
        return [(op, (value[0], value[0], value[2]))] if value[0] else []

    def _least_width(self, items: list[Node]) -> int:
        """Return the reach of items that cannot match an empty text; 0 if they can."""
        low, _ = self._sub(items).getwidth()
        return (self._width(items) or 0) if low else 0

    def _width(self, items: Sequence[Node]) -> int | None:
        """Return how many characters items match and look at; None if there is no limit."""
        total = int(self._sub(items).getwidth()[1]) + self._ahead(items)
        return total if total <= LONGEST else None

    def _ahead(self, items: Iterable[Node]) -> int:
        """Return how many characters items look at, but do not match."""
        widths = (value[1].getwidth()[1] for op, value in _inner(items) if op in ("ASSERT", "ASSERT_NOT"))
        return int(sum(widths)) + 1  # one for `$`, `\b` and the like, which look at the next character

    def _line_ends(self, items: Iterable[Node]) -> int | None:
        """Return how many line ends items may match; None if there is no limit."""
        total = 0
        for op, value in items:
            found = self._line_ends_of(str(op), value)
            if found is None or total + found > _MOST_LINE_ENDS:
                return None
            total += found
        return total

    def _line_ends_of(self, op: str, value: Node) -> int | None:
        if op == "SUBPATTERN" and (value[1] or value[2]):
            return None  # with flags of its own
        children = [self._line_ends(child) for child in _children(op, value)]
        if op in _REPEATS:
            inner = children[0]
            return 0 if inner == 0 else None if inner is None or value[1] > _MOST_LINE_ENDS else inner * int(value[1])
        if children:
            return None if None in children else max(child or 0 for child in children)
        if op == "AT":
            return 0
        return 1 if _compiler.compile(self._sub([(getattr(_parser, op), value)]), self._flags).match("\n") else 0

    def _part(self, items: list[Node], reach: int) -> Part:
        return Part(_compiler.compile(self._sub(items), self._flags), reach, self._literal(items))

    def _literal(self, items: list[Node]) -> str:
        """Return the longest text that is in each match."""
        runs = [""]
        for op, value in _flat(items):
            if str(op) == "LITERAL":
                runs[-1] += chr(value)
            elif str(op) not in ("AT", "ASSERT", "ASSERT_NOT"):
                runs.append("")
        longest = max(runs, key=len)
        return longest if len(longest) >= _LONGEST_LITERAL_IS and not self._flags & re.IGNORECASE else ""

    def _sub(self, items: Iterable[Node]) -> Node:
        return _parser.SubPattern(self._state, list(items))

"""`Text`: what a console said since the last match, and `Search`: the patterns that are searched for in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import pexpect

from pytest_jumpstarter.device.patterns import LONGEST, Way, ways_of

MOST_CHARACTERS = 16 << 20
"""The last characters without a match that are kept in memory; all output is in the recording."""

_WINDOW = 1 << 18  # characters that are searched at most if the patterns need no more

Match: TypeAlias = re.Match[str] | str


class Text:
    """
    What a console said since the last match.

    Places in it are counted from its first character. Only its end, the window, is one string all the time.

    Attributes:
        searched: The place up to which an earlier search has looked.
    """

    def __init__(self) -> None:
        self.searched = 0
        self._old: list[str] = []
        self._first = 0  # the place of the first character that is kept
        self._window = ""
        self._begin = 0  # the place of the window

    def __len__(self) -> int:
        return self._begin + len(self._window)

    def append(self, text: str) -> None:
        """Add text."""
        self._window += text
        if len(self) - self._first > 2 * MOST_CHARACTERS:
            self.drop(len(self) - MOST_CHARACTERS)

    @property
    def is_wide(self) -> bool:
        """Whether the window is so long that adding to it takes time."""
        return len(self._window) > _WINDOW

    def narrow(self, needed: int) -> None:
        """Let the window begin shortly before the place `needed`."""
        cut = needed - LONGEST - self._begin  # patterns look at what is before a match, too
        if cut > _WINDOW >> 1:
            self._old.append(self._window[:cut])
            self._window, self._begin = self._window[cut:], self._begin + cut

    def since(self, place: int) -> tuple[str, int]:
        """Return a string that contains all from `place`, and the place of its first character."""
        if place < self._begin and self._old:
            self._window, self._begin = "".join([*self._old, self._window]), self._first
            self._old = []
        return self._window, self._begin

    def drop(self, place: int) -> None:
        """Forget what is before `place`."""
        window, begin = self.since(0)
        place = max(place, begin)
        self._window, self._begin, self._first = window[place - begin :], place, place

    def all(self) -> str:
        """Return all that is kept."""
        return self.since(0)[0]


class Seeker(Protocol):
    """Searches for one pattern in a text that grows."""

    def find(self, text: Text) -> tuple[int, int, Match] | None:
        """Return begin, end and match of a match that did not exist in `text.searched` characters."""

    def needed(self, text: Text) -> int:
        """Return the place before which it will not search any more."""


class ExactSeeker:
    """Searches for a plain string."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def find(self, text: Text) -> tuple[int, int, Match] | None:
        """See `Seeker.find`."""
        begin = max(0, text.searched - len(self._wanted) + 1)
        string, base = text.since(begin)
        place = string.find(self._wanted, max(0, begin - base))
        return None if place < 0 else (base + place, base + place + len(self._wanted), self._wanted)

    def needed(self, text: Text) -> int:
        """See `Seeker.needed`."""
        return max(0, len(text) - len(self._wanted) + 1)


class PatternSeeker:
    """
    Searches for a regular expression.

    Args:
        pattern: The expression.
        window: If given, a match is not searched for further back than this; pexpect's `searchwindowsize`.
    """

    def __init__(self, pattern: re.Pattern[str], window: int | None = None) -> None:
        self._pattern = pattern
        self._window = window
        self._ways = [(way, _Progress(way)) for way in ways_of(pattern)]

    def find(self, text: Text) -> tuple[int, int, Match] | None:
        """See `Seeker.find`."""
        begins = [begin for way, progress in self._ways if (begin := progress.earliest(text)) is not None]
        if not begins:
            return None
        begin = min(begins) if self._window is None else max(min(begins), text.searched - self._window)
        string, base = text.since(begin)
        found = self._pattern.search(string, max(0, begin - base))
        return None if found is None else (base + found.start(), base + found.end(), found)

    def needed(self, text: Text) -> int:
        """See `Seeker.needed`."""
        return min(progress.needed(text) for _, progress in self._ways)


class _Progress:
    """
    Knows which parts of one alternative of a pattern were found.

    Args:
        way: The alternative.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._first = 0  # where the first part was found
        self._last = 0  # where the last one of these was found
        self._count = 0  # of the parts that were found
        self._end = 0  # where the part at the end was found

    def earliest(self, text: Text) -> int | None:
        """Return where a match that did not exist before begins at the earliest; None if there is none."""
        way = self._way
        if not self._has_parts(text):
            return None
        begin = 0
        if way.begins:
            begin = self._first if len(way.parts) > 1 or not way.ends else self._end
        return begin if way.line_ends is None else max(begin, self._begin_of_line(text, begin))

    def needed(self, text: Text) -> int:
        """Return the place before which no part is searched any more."""
        if not self._way.parts:
            return 0
        return max(0, len(text) - max(part.reach for part in self._way.parts) - self._way.ahead)

    def _has_parts(self, text: Text) -> bool:
        """Return whether the text has all parts, and the last one where there is something new."""
        way = self._way
        for number, part in enumerate(way.parts[self._count :], self._count):
            is_end = way.ends and number == len(way.parts) - 1
            begin = max(self._last, text.searched - part.reach - (way.ahead if is_end else 0))
            string, base = text.since(begin)
            place = part.find(string, max(0, begin - base))
            if place < 0:
                return False
            if is_end:
                self._end = base + place
            else:
                self._last, self._count = base + place, number + 1
                self._first = self._first if number else self._last
        return True

    def _begin_of_line(self, text: Text, begin: int) -> int:
        """Return the begin of the line in which a match begins at the earliest."""
        string, base = text.since(begin)
        place = text.searched - self._way.ahead - base
        for _ in range((self._way.line_ends or 0) + 1):
            place = string.rfind("\n", 0, max(0, place))
            if place < 0:
                return begin
        return base + place + 1


@dataclass(frozen=True, slots=True)
class _Signs:
    """
    What begins a match of several patterns: as long as none of it comes, none of them has to be searched for.

    Attributes:
        literals: One of these is in each match.
        reach: The most characters before its end, and after it, that a part of a pattern needs.
    """

    literals: tuple[str, ...]
    reach: int

    def are_in(self, text: Text) -> bool:
        """Return whether one of them is in what is new."""
        begin = max(0, text.searched - self.reach)
        string, base = text.since(begin)
        new = string[max(0, begin - base) :]
        return any(literal in new for literal in self.literals)


@lru_cache(maxsize=64)
def _signs_of(patterns: tuple[re.Pattern[str], ...]) -> _Signs | None:
    """Return the signs of patterns; None if one of them may match without one."""
    ways = [way for pattern in patterns for way in ways_of(pattern)]
    if not all(way.parts and way.parts[0].literal for way in ways):
        return None
    reaches = [part.reach + way.ahead for way in ways for part in way.parts]
    return _Signs(tuple(way.parts[0].literal for way in ways), max(reaches, default=0))


class Search:
    """
    Searches for the first of several patterns.

    Args:
        patterns: Plain strings, regular expressions, `pexpect.EOF` and `pexpect.TIMEOUT`.
        others: Patterns that end the search too, unless one of `patterns` comes first.
        window: See `PatternSeeker`.

    Attributes:
        eof_index: The index of `pexpect.EOF`; -1 if it is not waited for.
        timeout_index: That of `pexpect.TIMEOUT`.
    """

    def __init__(
        self,
        patterns: Sequence[str | re.Pattern[str] | type[pexpect.EOF | pexpect.TIMEOUT]],
        others: Sequence[re.Pattern[str]] = (),
        window: int | None = None,
    ) -> None:
        self.patterns = list(patterns)
        self.eof_index = self.timeout_index = -1
        self._seekers: list[tuple[int, Seeker]] = []
        for index, pattern in enumerate(patterns):
            if pattern is pexpect.EOF:
                self.eof_index = index
            elif pattern is pexpect.TIMEOUT:
                self.timeout_index = index
            else:
                self._seekers.append((index, _seeker(pattern, window)))
        self._others = tuple(others)
        self._signs = _signs_of(self._others)
        if self._signs is None:
            self._add_others()

    def _add_others(self) -> None:
        first = len(self.patterns)
        self._seekers += ((first + index, PatternSeeker(other)) for index, other in enumerate(self._others))

    def find(self, text: Text) -> tuple[int, int, int, Match] | None:
        """Return index, begin, end and match of the first match; of several at one place that of the first pattern."""
        if self._signs is not None and self._signs.are_in(text):
            self._signs = None
            self._add_others()
        first: tuple[int, int, int, Match] | None = None
        for index, seeker in self._seekers:
            if (found := seeker.find(text)) is not None and (first is None or found[0] < first[1]):
                first = (index, *found)
        text.searched = len(text)
        return first

    def needed(self, text: Text) -> int:
        """Return the place before which no pattern is searched for any more."""
        needed = min((seeker.needed(text) for _, seeker in self._seekers), default=len(text))
        return needed if self._signs is None else min(needed, max(0, len(text) - self._signs.reach))


@lru_cache(maxsize=16)
def compiled(patterns: tuple[str, ...]) -> list[re.Pattern[str]]:
    """Return compiled regular expressions."""
    return [re.compile(pattern) for pattern in patterns]


def _seeker(pattern: Any, window: int | None) -> Seeker:
    return ExactSeeker(pattern) if isinstance(pattern, str) else PatternSeeker(pattern, window)


class ForeignSearch(Search):
    """
    Searches with a searcher that pexpect made, or a class like it.

    Args:
        searcher: The searcher.
        window: See `PatternSeeker`.
    """

    def __init__(self, searcher: Any, window: int | None) -> None:
        super().__init__(())
        self.eof_index, self.timeout_index = searcher.eof_index, searcher.timeout_index
        self._searcher = searcher
        self._size = window

    def find(self, text: Text) -> tuple[int, int, int, Match] | None:
        """See `Search.find`."""
        string, base = text.since(0)
        index = self._searcher.search(string, len(text) - text.searched, self._size)
        text.searched = len(text)
        if index < 0:
            return None
        return index, base + self._searcher.start, base + self._searcher.end, self._searcher.match

    def needed(self, text: Text) -> int:  # noqa: ARG002 - it may look at all
        """See `Search.needed`."""
        return 0

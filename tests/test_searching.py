"""The search in a text that grows finds what a search in the whole text finds, and looks at little of it again."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from pytest_jumpstarter.device import patterns, searching
from pytest_jumpstarter.device.patterns import ways_of
from pytest_jumpstarter.device.searching import Search, Text

PATTERNS = (
    *(
        "ab",
        "a+b",
        "ab+",
        r"\d+\.\d+",
        "a.*b",
        "a.*?b",
        ".*ab",
        "(ab|ba)+c",
        "a{2,}",
        "a{2,3}b*c",
        "^a",
        "b$",
        "a.*$",
        "^.*c",
    ),
    *(
        "(?<=a)b",
        "(?<!a)b",
        "a(?=bc)",
        "a(?!b)c*",
        "a(?=.*c)",
        r"(a|b)\1",
        r"\ba\b",
        r"a\B",
        "(?i)A.B",
        "[^a]+c",
        "a[^\n]*b",
    ),
    *(
        r"\n[^\n]*c",
        "(?m)^a.*b$",
        "(?:a|bc*)d?",
        "a++b",
        "(?>a|ab)c",
        "",
        "x*",
        "a|b.*c",
        "(?:a.b)+",
        "(?:a+b)+c",
        "a(?:b+c)+",
    ),
    *(
        r"(?-s:a.*)b",
        "(?s:a.*)b",
        r"\Aab",
        r"c\Z",
        "a(b(?=c)|c)+",
        "(?P<x>a)(?P=x)",
        "(a)?(?(1)b|c)",
        r"[\s\S]*d",
        r"\s+\S+\s",
    ),
)


def by_whole_text(patterns: list[re.Pattern[str]], text: str) -> tuple[int, int, int] | None:
    """Return index, begin and end of what pexpect finds."""
    first: tuple[int, int, int] | None = None
    for index, pattern in enumerate(patterns):
        found = pattern.search(text)
        if found and (first is None or found.start() < first[1]):
            first = (index, found.start(), found.end())
    return first


def pieces_of(chance: random.Random) -> list[str]:
    """Return a text in random pieces."""
    text = "".join(chance.choice("aabbc d.1\n") for _ in range(chance.randrange(1, 60)))
    cuts = sorted(chance.choices(range(len(text)), k=chance.randrange(0, 8)))
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize("flags", [0, re.DOTALL, re.DOTALL | re.MULTILINE | re.IGNORECASE])
def test_finds_what_the_whole_text_has(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each piece, every pattern and pairs of patterns match where they would in the whole text, if anywhere."""
    monkeypatch.setattr(searching, "_WINDOW", 4)
    monkeypatch.setattr(searching, "LONGEST", 3)
    chance = random.Random(1)
    compiled = [re.compile(pattern, flags) for pattern in PATTERNS]
    for one in compiled:
        for _ in range(60):
            wanted = [one] if chance.random() < 0.5 else [one, chance.choice(compiled)]
            search, text, said = Search(wanted), Text(), ""
            for piece in pieces_of(chance):
                text.narrow(search.needed(text))
                text.append(piece)
                said += piece
                found, expected = search.find(text), by_whole_text(wanted, said)
                assert (found[:3] if found else None) == expected, (wanted, said)
                if found:
                    break
            assert text.all() == said


def test_other_patterns_are_found_by_their_signs() -> None:
    """Patterns that end a search are found in each text where they match, however its pieces cut their literals."""
    others = [re.compile(each) for each in (r"\baabb", r"bbca|acab\w*\.", r" cabb: ?\d+ aaaa$", r"(?m)^bcbc\b.$")]
    words = ("aabb", "bbca", "acab", "a", " cabb: ", "cabb:", "1", " aaaa", "\n", "bcbc", ".", "b", "c ")
    chance, hits = random.Random(2), 0
    for _ in range(2000):
        said = "".join(chance.choices(words, k=chance.randrange(1, 12)))
        cuts = sorted(chance.choices(range(len(said) + 1), k=chance.randrange(0, 6)))
        search, text = Search([re.compile("c c")], others), Text()
        for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
            text.narrow(search.needed(text))
            text.append(said[begin:end])
            found, expected = search.find(text), by_whole_text([re.compile("c c"), *others], said[:end])
            assert (found[:3] if found else None) == expected, said[:end]
            if found:
                hits += 1
                break
    assert 500 < hits < 1900


@pytest.mark.parametrize(
    "pattern",
    [
        r"login: ",
        r"\d+\.\d+\.\d+",
        r"U-Boot (\S+) .*\n",
        r"Linux version (.*) \(",
        r"(?:root@\S+:\S+# )$",
        "no.*where",
        ".*login:",
    ],
)
def test_what_people_write_is_not_searched_again(pattern: str) -> None:
    """Of patterns as people write them something is known: a limit, or parts without which there is no match."""
    assert all(way.reach is not None or way.parts for way in ways_of(re.compile(pattern, re.DOTALL)))


def test_without_the_parser_of_re(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Python has no such parser, nothing is known of any pattern, and all are found."""
    monkeypatch.setattr(patterns, "_parser", None)
    pattern = re.compile("only here: a+b")
    assert ways_of(pattern) == (patterns.ANYWHERE,)
    text = Text()
    text.append("only here: aa")
    search = Search([pattern])
    assert search.find(text) is None
    text.append("b")
    found: Any = search.find(text)
    assert found[:3] == (0, 0, 14)


def test_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a text that never matches only the end is kept; what is found later has its true place."""
    monkeypatch.setattr(searching, "MOST_CHARACTERS", 1000)
    text, search = Text(), Search(["END", re.compile("B.*?E")])
    for _ in range(100):
        text.append("x" * 99 + "\n")
        assert search.find(text) is None
    assert 1000 <= len(text.all()) <= 2000
    text.append("BE END")
    found: Any = search.find(text)
    assert found[:3] == (1, 10_000, 10_002)

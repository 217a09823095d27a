"""
Label selectors: parse, match, and the canonical text.

The grammar is that of Kubernetes' `labels.Parse`, which the lab controller uses: terms joined by commas, all of
which must hold: `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k` (label exists), `!k` (label does not exist),
`k>1`, `k<1`. The last two are only for listings: a lab controller does not lease by them.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pytest_jumpstarter.option_errors import SelectorError

Operator = Literal["=", "==", "!=", ">", "<", "in", "notin", "exists", "!exists"]

_TOKEN = re.compile(r"\s*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^\s=!(),<>]+))")
_NUMBER = re.compile(r"[0-9]{1,19}")
_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def is_label_key(text: str) -> bool:
    """Return whether `text` is a valid label key: `[prefix/]name`, where the name has at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))


def is_label_value(text: str) -> bool:
    """Return whether `text` is a valid label value: empty, or at most 63 letters, digits, `-`, `_` and `.`."""
    return not text or bool(_NAME.fullmatch(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition on one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether `labels` fulfil this condition; `notin` and `!=` hold for a missing label."""
        match self.operator:
            case "exists":
                return self.key in labels
            case "!exists":
                return self.key not in labels
            case "notin" | "!=":
                return labels.get(self.key) not in self.values
            case ">" | "<":
                return self._compares(labels.get(self.key, ""))
            case _:
                return labels.get(self.key) in self.values

    def _compares(self, value: str) -> bool:
        """Return whether `value` is a number, and greater or less than ours."""
        if not _NUMBER.fullmatch(value):
            return False
        number, bound = int(value), int(self.values[0])
        return number > bound if self.operator == ">" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!exists":
                return f"!{self.key}"
            case "=" | "==" | ">" | "<":
                return f"{self.key}{self.operator}{self.values[0]}"
            case "!=":
                return f"{self.key} notin ({','.join(sorted(set(self.values)))})"
            case _:
                return f"{self.key} {self.operator} ({','.join(sorted(set(self.values)))})"


@dataclass(frozen=True, slots=True)
class Selector:
    """
    Conditions on an exporter's labels, all of which must hold.

    `str(selector)` of a parsed selector is canonical: terms sorted by key, `!=` written as `notin`, `==` as `=`. Two
    selectors with the same text match the same labels. A lab controller leases by the canonical text only: it refuses
    `==`.
    """

    terms: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Selector:
        """
        Parse a selector.

        Raises:
            SelectorError: `text` is not a selector, requires one label to have two values, or compares numbers.
        """
        return cls(_normalise(parse_terms(text), text))

    @property
    def match_labels(self) -> dict[str, str]:
        """The conditions `k=v`, the only ones that the lab controller stores as labels of the lease."""
        return {term.key: term.values[0] for term in self.terms if term.operator == "="}

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether `labels` fulfil every condition."""
        return all(term.matches(labels) for term in self.terms)

    def unmet(self, labels: Mapping[str, str]) -> list[Term]:
        """Return the conditions that `labels` do not fulfil."""
        return [term for term in self.terms if not term.matches(labels)]

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def parse_terms(text: str) -> tuple[Term, ...]:
    """
    Return the terms of a selector, as they are written.

    Raises:
        SelectorError: `text` is not a selector.
    """
    return tuple(_Parser(text).terms())


def _normalise(terms: Iterable[Term], text: str) -> tuple[Term, ...]:
    """Merge repeated `=` and `notin` terms of one key into one term, and sort the terms."""
    merged: dict[tuple[str, Operator], Term] = {}
    rest: list[Term] = []
    for term in map(_plain, terms):
        if term.operator in (">", "<"):
            raise SelectorError(
                f"selector {text!r} compares numbers with {term.operator}; a lab controller does not lease by that:"
                f" list the values, as in {term.key} in (1,2)"
            )
        known = merged.setdefault((term.key, term.operator), term)
        if known.values == term.values:
            continue
        if term.operator == "=":
            raise SelectorError(
                f"selector {text!r} requires label {term.key} to be both {known.values[0]} and {term.values[0]}"
            )
        if term.operator == "notin":
            values = tuple(dict.fromkeys(known.values + term.values))
            merged[term.key, "notin"] = Term(key=term.key, operator="notin", values=values)
        else:
            rest.append(term)
    return tuple(sorted([*merged.values(), *rest], key=lambda term: (term.key, str(term))))


def _plain(term: Term) -> Term:
    """Return `term` with `=` for `==`, and `notin` for `!=`."""
    plain: dict[Operator, Operator] = {"==": "=", "!=": "notin"}
    return replace(term, operator=plain.get(term.operator, term.operator))


class _Parser:
    """A recursive-descent parser of one selector."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.position = 0

    def terms(self) -> Iterator[Term]:
        if not self.tokens:
            raise SelectorError(f"selector {self.text!r} is empty; an example of a selector is board=rpi4")
        yield self._term()
        while self.position < len(self.tokens):
            self._take(",")
            yield self._term()

    def _split(self) -> Iterator[str]:
        position, text = 0, self.text.rstrip()
        while position < len(text):
            token = _TOKEN.match(text, position)
            assert token is not None  # the two alternatives cover every character
            yield token["symbol"] or token["word"]
            position = token.end()

    def _term(self) -> Term:
        if self._peek() == "!":
            self._take("!")
            return Term(key=self._key(), operator="!exists")
        key = self._key()
        match self._peek():
            case "=" | "==" | "!=" as operator:
                self.position += 1
                return Term(key=key, operator=operator, values=(self._value(),))
            case ">" | "<" as operator:
                self.position += 1
                return Term(key=key, operator=operator, values=(self._number(),))
            case "in" | "notin" as operator:
                self.position += 1
                return Term(key=key, operator=operator, values=self._values())
            case _:
                return Term(key=key, operator="exists")

    def _values(self) -> tuple[str, ...]:
        self._take("(")
        values = [self._value()]
        while self._peek() == ",":
            self._take(",")
            values.append(self._value())
        self._take(")")
        return tuple(values)

    def _key(self) -> str:
        word = self._next("a label")
        if not is_label_key(word):
            raise self._error(f"{word!r} is not a label key")
        return word

    def _value(self) -> str:
        if self._peek() in (",", ")", None):
            return ""  # in Kubernetes `k=` means that the value of k is the empty string
        word = self._next("a value")
        if not is_label_value(word):
            raise self._error(f"{word!r} is not a label value (letters, digits, '-', '_', '.'; at most 63)")
        return word

    def _number(self) -> str:
        word = self._next("a number")
        if not _NUMBER.fullmatch(word):
            raise self._error(f"{word!r} is not a whole number of at most 19 digits")
        return word

    def _peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def _next(self, wanted: str) -> str:
        token = self._peek()
        if token is None:
            raise self._error(f"{wanted} is missing at the end")
        self.position += 1
        return token

    def _take(self, symbol: str) -> None:
        token = self._next(f"{symbol!r}")
        if token != symbol:
            raise self._error(f"{symbol!r} expected before {token!r}")

    def _error(self, what: str) -> SelectorError:
        return SelectorError(f"selector {self.text!r} does not parse: {what}")

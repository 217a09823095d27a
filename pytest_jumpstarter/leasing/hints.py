"""Hints in messages: what the lab has instead, if nothing matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING

from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.selector import Selector, Term

if TYPE_CHECKING:
    from pytest_jumpstarter.leasing.availability import ListedExporter

_SHOWN = 8


def hint(wanted: Wanted, exporters: Sequence[ListedExporter]) -> str:
    """Return what `exporters` have instead of what `wanted` names; each part starts with a semicolon."""
    found = [exporter for exporter in exporters if exporter.name == wanted.exporter]
    if wanted.exporter is not None and not found:
        return f"; the lab has {_names(wanted.exporter, exporters)}"
    terms = {term.key: term for term in Selector.parse(wanted.selector).terms} if wanted.selector else {}
    if found:
        return "".join(f"; it has {_label(key, found[0])}" for key in terms)
    unmet = [term for term in terms.values() if not any(term.matches(each.labels) for each in exporters)]
    return "".join(f"; {_values(term, exporters)}" for term in unmet or terms.values())


def _names(wanted: str, exporters: Sequence[ListedExporter]) -> str:
    """Return names of exporters; those similar to the missing one come first."""
    names = sorted((exporter.name for exporter in exporters), key=lambda name: -_likeness(name, wanted))
    return listed(names, _SHOWN) if names else "no exporters"


def _likeness(name: str, wanted: str) -> float:
    return SequenceMatcher(None, name, wanted).quick_ratio()


def _label(key: str, exporter: ListedExporter) -> str:
    return f"{key}={exporter.labels[key]}" if key in exporter.labels else f"no label {key!r}"


def _values(term: Term, exporters: Sequence[ListedExporter]) -> str:
    """Return the values that a label has, or the value that is probably meant."""
    counts = Counter(exporter.labels[term.key] for exporter in exporters if term.key in exporter.labels)
    if not counts:
        near = get_close_matches(term.key, {key for exporter in exporters for key in exporter.labels}, n=1)
        return f"no exporter has a label {term.key!r}{f', did you mean {near[0]!r}?' if near else ''}"
    near = get_close_matches("".join(term.values[:1]), set(counts) - set(term.values), n=1)
    if near and not any(value in counts for value in term.values):
        return f"did you mean {term.key}={near[0]} ({counts[near[0]]})?"
    return f"the lab has {listed([f'{term.key}={value} ({count})' for value, count in counts.most_common()], _SHOWN)}"


def listed(words: Sequence[str], most: int) -> str:
    """Return the first `most` words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"{', '.join(words[:most])}{more}"

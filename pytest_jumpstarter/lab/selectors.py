"""
The selectors in requests: of a lease, and of a listing.

A listing takes every operator. A lease stores its selector as Kubernetes' `LabelSelector`, which has no `==`, `>` and
`<`, and returns it in the order in which Kubernetes writes it.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from jumpstarter_protocol import kubernetes_pb2

from pytest_jumpstarter.errors import SelectorError
from pytest_jumpstarter.lab.kubernetes import label_key_faults
from pytest_jumpstarter.lab.refusal import Refusal
from pytest_jumpstarter.selector import Operator, Selector, Term, parse_terms

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_UNSUPPORTED = {"==": "==", ">": "gt", "<": "lt"}
_LEGACY: dict[str, Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!exists"}


def lease_selector(text: str) -> Selector | None:
    """Parse the selector of a lease; None if it is empty."""
    try:
        return stored(_terms(text))
    except SelectorError as error:
        raise Refusal(f"failed to parse label selector: {error}") from error


def legacy_selector(message: kubernetes_pb2.LabelSelector) -> Selector | None:
    """Return the selector in a request of a client before 0.7; None if it is empty."""
    equal = [Term(key=key, operator="=", values=(value,)) for key, value in message.match_labels.items()]
    expressions = [_expression(each) for each in message.match_expressions]
    return stored((*equal, *expressions))


def list_filter(text: str) -> Selector | None:
    """Parse the filter of a listing; None, which matches everything, if it is empty."""
    try:
        return _listed(_terms(text))
    except SelectorError as error:
        raise Refusal(str(error)) from error


def tag_filter(text: str) -> Selector | None:
    """Parse the tag filter of a listing; None, which matches everything, if it is empty."""
    try:
        terms = _terms(text)
    except SelectorError as error:
        raise Refusal(f"invalid tag_filter: {error}", _INVALID) from error
    for term in terms:
        if faults := label_key_faults(term.key):
            raise Refusal(f'invalid tag_filter requirement: key: Invalid value: "{term.key}": {faults}', _INVALID)
    return _listed(terms)


def stored(terms: Iterable[Term]) -> Selector | None:
    """Return the selector that is stored for `terms`: sorted by key, with all `!=` of one key as one `notin`."""
    equal: dict[str, Term] = {}
    different: dict[str, Term] = {}
    others: list[Term] = []
    for term in sorted(terms, key=lambda term: term.key):
        if term.operator in _UNSUPPORTED:
            raise Refusal(f"unsupported label selector operator: {_UNSUPPORTED[term.operator]}")
        if term.operator == "=":
            _refuse_conflict(equal.setdefault(term.key, term), term)
        elif term.operator == "!=":
            known = different.get(term.key, term)
            different[term.key] = Term(key=term.key, operator="notin", values=(*known.values, *term.values))
        else:
            others.append(term)
    stored = sorted([*equal.values(), *others, *different.values()], key=lambda term: term.key)
    return Selector(tuple(stored)) if stored else None


def _terms(text: str) -> tuple[Term, ...]:
    return parse_terms(text) if text.strip() else ()


def _listed(terms: tuple[Term, ...]) -> Selector | None:
    return Selector(terms) if terms else None


def _refuse_conflict(first: Term, second: Term) -> None:
    if first.values != second.values:
        raise Refusal(
            f"invalid selector: label {first.key} cannot have multiple equality requirements with different values"
            f" ({first.values[0]} and {second.values[0]})"
        )


def _expression(message: kubernetes_pb2.LabelSelectorRequirement) -> Term:
    if message.operator not in _LEGACY:
        raise Refusal(f'"{message.operator}" is not a valid label selector operator')
    return Term(key=message.key, operator=_LEGACY[message.operator], values=tuple(message.values))

"""Data and objects, made safe value by value before they are serialised: a finished text would be damaged."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from pytest_jumpstarter.masking import safe

_SAFE = frozenset((int, float, bool, type(None)))
_MANY = frozenset((list, tuple, dict))


def safe_data(value: Any) -> Any:
    """Return a copy of data of others: text, and lists, tuples and dicts with any keys; other values as they are."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, dict):
        return {safe_data(key): safe_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        found = [safe_data(each) for each in value]
        return found if isinstance(value, list) else tuple(found)
    return value


def safe_record(value: Any, *, ours: Collection[str], maps: Collection[str], name: str = "") -> Any:
    """
    Return a copy of data whose keys are ours, and whose values are of others.

    Args:
        value: The data.
        ours: The keys of values that stay as they are, because this package has chosen them.
        maps: The keys of dicts whose keys are of others, too.
        name: The key of `value`.
    """
    if name in ours:
        return value
    if isinstance(value, dict):
        if name in maps:
            return {safe(key): safe_data(each) for key, each in value.items()}
        return {key: safe_record(each, ours=ours, maps=maps, name=key) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [safe_record(each, ours=ours, maps=maps, name=name) for each in value]
    return safe_data(value)


def make_safe(thing: Any, *, inside: tuple[str, ...], kept: Collection[str] = ()) -> None:
    """
    Change an object in place, attribute by attribute.

    Args:
        thing: The object.
        inside: Names of modules: objects of such modules that it refers to are changed as well, and whatever pytest
            shows by a method `toterminal`.
        kept: The names of attributes that stay as they are.
    """
    for name in [*getattr(thing, "__dict__", ()), *_slots(type(thing))]:  # type: ignore[arg-type]  # a class can be hashed
        if name in kept or (kind := type(value := getattr(thing, name, None))) in _SAFE:
            continue
        if kind in _MANY and not value:
            continue
        if (changed := _made_safe(value, inside, kept)) != value:
            object.__setattr__(thing, name, changed)


@lru_cache(maxsize=64)
def _slots(kind: type) -> list[str]:
    """Return the slots of a class."""
    return [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]


def _made_safe(value: Any, inside: tuple[str, ...], kept: Collection[str]) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, list | tuple):
        found = [_made_safe(each, inside, kept) for each in value]
        return found if isinstance(value, list) else tuple(found)
    if type(value).__module__.startswith(inside) or hasattr(type(value), "toterminal"):
        make_safe(value, inside=inside, kept=kept)
        return value
    return safe_data(value)

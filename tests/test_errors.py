"""The error tree is what its docstring draws."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

import pytest_jumpstarter
from pytest_jumpstarter import errors

_BUILTINS = {"ValueError": ValueError, "TimeoutError": TimeoutError, "ConnectionError": ConnectionError}


def _drawn() -> dict[str, tuple[str | None, str]]:
    """Return name -> (name of the parent, the words beside it) of the tree in the docstring."""
    tree: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    (?P<lines>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s{2,}|\s|$)(?P<words>.*)", line)
        if not found or not re.search(r"\b(class|[A-Z]\w+)\b", found["name"]) or not hasattr(errors, found["name"]):
            continue
        depth = len(found["lines"]) // 4
        tree[found["name"]] = (above[depth - 1] if depth else None, found["words"])
        above[depth:] = [found["name"]]
    return tree


def _real() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.JumpstarterError)
    }


def test_every_class_is_drawn() -> None:
    """The docstring names every error class, and no other."""
    assert set(_drawn()) == set(_real())


@pytest.mark.parametrize("name", sorted(_real()))
def test_drawn_where_it_is(name: str) -> None:
    """A class hangs below its first base in the drawing."""
    parent, _ = _drawn()[name]
    base = _real()[name].__bases__[0]
    assert (parent or "Exception") == base.__name__


@pytest.mark.parametrize("name", sorted(_real()))
def test_builtin_bases_are_told(name: str) -> None:
    """A class that is a builtin error, too, says so in the drawing."""
    _, words = _drawn()[name]
    told = set(re.findall(r"\(also an? (\w+)\)", words))
    real = {base.__name__ for base in _real()[name].__bases__[1:] if base is not ValueError}
    assert told == real


def test_request_errors_carry_request_and_response() -> None:
    """A request error has both attributes, be they empty."""
    error = errors.NotFound("gone")
    assert (str(error), error.request, error.response) == ("gone", None, None)


def test_names_in_tracebacks() -> None:
    """A public error is shown by a name that tests can import."""
    public = [getattr(pytest_jumpstarter, name) for name in pytest_jumpstarter.__all__]
    kinds = [each for each in public if inspect.isclass(each) and issubclass(each, Exception)]
    assert {each.__name__ for each in kinds} >= {"CommandFailed", "CommandTimeout", "StateNotReached"}
    for kind in [*kinds, *_real().values()]:
        assert kind.__module__ in {"pytest_jumpstarter", "pytest_jumpstarter.errors"}
        assert getattr(sys.modules[kind.__module__], kind.__name__) is kind

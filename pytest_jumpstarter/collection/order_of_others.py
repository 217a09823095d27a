"""
Which tests others have ordered: the command line, an option, a plugin, a conftest, or marks of dependencies.

Their order stays; `order` groups by device only what may move.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_jumpstarter.pytest_private import grouped_by_parameters, uses_request
from pytest_jumpstarter.roles import COLLECTED

_OPTIONS = {"failedfirst": "--ff", "newfirst": "--nf", "stepwise": "--stepwise"}
_ORDER_MARKS = {"order", "first", "last"}
"""Marks of pytest-order and pytest-ordering; tests that have them may be in order from the start."""


class Block(NamedTuple):
    """
    Tests that stay where they are among the other blocks.

    Attributes:
        tests: The tests.
        may_group: Whether they may be grouped by device.
    """

    tests: Sequence[pytest.Item]
    may_group: bool


class OrderOfOthers(NamedTuple):
    """
    What others have ordered.

    Attributes:
        reasons: Who has ordered tests, for people; empty if nobody has.
        blocks: All tests.
        in_order: Tests that keep their order among themselves, wherever other tests move.
    """

    reasons: Sequence[str]
    blocks: Sequence[Block]
    in_order: Collection[pytest.Item] = ()


def order_of_others(session: pytest.Session) -> OrderOfOthers:
    """Return what others have ordered in a session whose tests are collected."""
    items = session.items
    if reason := _orderer(session):
        return OrderOfOthers([reason], [Block(items, may_group=False)])
    blocks = _blocks(session.config, items)
    in_order = _with_dependencies(session.config, items)
    reasons = []
    if len(blocks) > 1 or not all(block.may_group for block in blocks):
        reasons.append("the command line gives an order")
    if in_order:
        reasons.append("tests depend on others")
    return OrderOfOthers(reasons, blocks, in_order)


def _orderer(session: pytest.Session) -> str:
    """Return what has ordered all tests, for people; empty if nothing has."""
    config = session.config
    for option, flag in _OPTIONS.items():
        if config.getoption(option, default=False):
            return f"{flag} orders them"
    if config.pluginmanager.hasplugin("randomly") and config.getoption("randomly_reorganize", default=True):
        return "pytest-randomly orders them"
    if any(_orders(mark) for item in session.items for mark in item.iter_markers()):
        return "marks order them"
    if _is_reordered(session.items, session.stash[COLLECTED]):
        return f"{_who_may_reorder(config)} has ordered them"
    return ""


def _is_reordered(items: Sequence[pytest.Item], collected: list[pytest.Item]) -> bool:
    """Return whether tests are in another order than pytest's own; tests may be missing."""
    chosen = set(items)
    as_collected = [item for item in collected if item in chosen]
    orders = (
        as_collected,
        grouped_by_parameters(as_collected),
        [item for item in grouped_by_parameters(collected) if item in chosen],
    )
    return list(items) not in orders


def _who_may_reorder(config: pytest.Config) -> str:
    """Return the names of the conftest files and plugins that implement the hook for it."""
    hook = config.hook.pytest_collection_modifyitems
    names = [found.plugin_name for found in hook.get_hookimpls() if not _is_of_pytest(found.plugin)]
    return " or ".join(Path(name).name for name in names) or "a plugin"


def _is_of_pytest(plugin: object) -> bool:
    module = getattr(plugin, "__module__", None) or getattr(plugin, "__name__", "")
    return str(module).split(".", 1)[0] in {"_pytest", "xdist"}


def _blocks(config: pytest.Config, items: Sequence[pytest.Item]) -> list[Block]:
    """Return a block for each path of the command line; tests of a file or node id that it names must not move."""
    paths = [_path(config, arg) for arg in config.args]
    is_given = config.args_source is pytest.Config.ArgsSource.ARGS
    if not is_given or (len(paths) == 1 and not paths[0].is_file()):
        return [Block(items, may_group=True)]

    def path_of(item: pytest.Item) -> Path | None:
        return next((path for path in paths if item.path.is_relative_to(path)), None)

    found = [(path, list(tests)) for path, tests in groupby(items, path_of)]
    return [Block(tests, may_group=path is not None and path.is_dir()) for path, tests in found]


def _path(config: pytest.Config, arg: str) -> Path:
    """Return the file or folder of an argument, which may be a node id."""
    return Path(config.invocation_params.dir, arg.split("::", 1)[0])


def _with_dependencies(config: pytest.Config, items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """
    Return the tests that may depend on others, or others on them, by marks such as those of pytest-dependency.

    A test that uses `request` may be one without a mark: pytest-dependency has the function `depends(request, …)`.
    """
    if config.pluginmanager.hasplugin("dependency") and config.getini("automark_dependency"):
        return set(items)
    marked = {item for item in items if any(mark.name.startswith("depend") for mark in item.iter_markers())}
    return marked | {item for item in items if uses_request(item)} if marked else set()


def _orders(mark: pytest.Mark) -> bool:
    return mark.name in _ORDER_MARKS or (mark.name == "run" and bool(mark.kwargs))

"""
`LazyComposite`: Jumpstarter's client of a driver that only holds others, which builds each when it is first used.

This module imports Jumpstarter's client code, so it is imported only after an exporter was connected.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from jumpstarter_driver_composite.client import CompositeClient

from pytest_jumpstarter.device.drivers import LAZY_CHILDREN, AnyClient, is_missing

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.device.driver_builder import ReportedDriver


class LazyChildren:
    """
    The children of a composite driver by name.

    Args:
        nodes: What the exporter reported of each child.
        build: Builds the client of one, or returns it if it is already built.
    """

    def __init__(self, nodes: Mapping[str, ReportedDriver], build: Callable[[ReportedDriver], DriverClient]) -> None:
        self._nodes = nodes
        self._build = build
        self._lock = threading.Lock()
        self._all: dict[str, AnyClient] | None = None

    def __getitem__(self, name: str) -> AnyClient:
        __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
        if self._all is None:
            return self._build(self._nodes[name])
        if is_missing(child := self._all[name]) and child.is_temporary and name in self._nodes:
            child = self._all[name] = self._build(self._nodes[name])
        return child

    def __contains__(self, name: object) -> bool:
        return name in (self._nodes if self._all is None else self._all)

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes if self._all is None else self._all)

    def all(self) -> dict[str, AnyClient]:
        """Build all children that are not built yet, and return the one `dict` with them, which users may change."""
        if self._all is None:
            built = {name: self._build(node) for name, node in self._nodes.items()}
            with self._lock:
                self._all = built if self._all is None else self._all
        for name in list(self._all):
            _ = self[name]  # a child that could not be built before
        return self._all

    def replace(self, children: dict[str, AnyClient]) -> None:
        """Replace all children, as somebody does who assigns `children`."""
        self._all = children

    def close(self) -> None:
        """Close the clients that were built, and what users added."""
        built = (node.client for node in self._nodes.values()) if self._all is None else self._all.values()
        for client in list(built):
            if hasattr(client, "close"):
                client.close()


class LazyComposite(CompositeClient):  # type: ignore[misc, unused-ignore]  # Jumpstarter's classes may have no types
    """
    A composite client whose children are built when they are first used.

    A child that is looked up as an attribute is built alone. Whoever reads `children` gets a `dict` with all of them,
    as from Jumpstarter's class: a `dict` can be read in too many ways for anything else to replace it.
    """

    @classmethod
    def turn(cls, client: DriverClient, children: LazyChildren) -> None:
        """Turn a composite client that was built without children into one with these."""
        del client.__dict__["children"]
        client.__dict__[LAZY_CHILDREN] = children
        client.__class__ = cls

    @property
    def children(self) -> dict[str, AnyClient]:
        """The children by name; those that are not built yet are built now."""
        return self._lazy.all()

    @children.setter
    def children(self, children: dict[str, AnyClient]) -> None:
        self._lazy.replace(children)

    @property
    def _lazy(self) -> LazyChildren:
        children: LazyChildren = self.__dict__[LAZY_CHILDREN]
        return children

    def __getattr__(self, name: str) -> AnyClient:
        __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
        if name not in self._lazy:
            raise AttributeError(name)
        return self._lazy[name]

    def __repr__(self) -> str:
        return f"<CompositeClient: {', '.join(self._lazy)}>"

    def close(self) -> None:
        """Close the children that were built; the garbage collector calls this, too."""
        self._lazy.close()

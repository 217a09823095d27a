"""`Board`: a device of one kind, whose class declares the drivers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin

from pytest_jumpstarter.device.device import Device
from pytest_jumpstarter.device.drivers import children_of

_NO_DRIVERS = ("ClassVar", "Final")


class Board(Device):
    """
    Base class of one kind of board. Its annotations declare the drivers, for type checkers and editors.

    ::

        class Rpi4(Board):
            power: PowerClient
            camera: UStreamerClient | None

        dut = device_fixture(Rpi4, selector="board=rpi4")

    A test is skipped if the board lacks a driver, but a driver that may be None is None then. The class of a driver
    client is not checked.

    Raises:
        TypeError: A driver is declared under the name of a member of `Device`.
    """

    _optional_drivers: ClassVar[frozenset[str]] = frozenset()

    if TYPE_CHECKING:
        __getattr__: None  # type: ignore[assignment, misc]  # so that a type checker refuses names that are not declared
    else:

        def __getattr__(self, name: str) -> Any:
            __tracebackhide__ = True  # for a driver that does not exist, pytest shows the line of the test
            if name in self._optional_drivers and name not in children_of(self.client):
                return None
            return super().__getattr__(name)

    def __init_subclass__(cls, **kwargs: object) -> None:
        __tracebackhide__ = True  # pytest shows the line of the class
        super().__init_subclass__(**kwargs)
        for name in _annotations(cls):
            if not name.startswith("_") and hasattr(Device, name):
                raise TypeError(
                    f"{cls.__name__}.{name}: every device has a member {name!r}, so a driver of this name cannot be "
                    f"declared; remove the annotation, and use drivers[{name!r}]"
                )
        found = declared_drivers(cls).items()
        cls._optional_drivers = frozenset(name for name, is_required in found if not is_required)


def declared_drivers(kind: type[Board]) -> Mapping[str, bool]:
    """Return the drivers that a kind of board declares, by name, and whether a board must have each."""
    found = {}
    for base in reversed(kind.__mro__):
        for name, annotation in _annotations(base).items():
            if not name.startswith("_") and not hasattr(kind, name) and not _is_no_driver(annotation):
                found[name] = not _allows_none(annotation)
    return found


def _annotations(kind: type) -> dict[str, object]:
    """Return the annotations of one class, which are never evaluated: their names may exist for type checkers only."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(kind, format=annotationlib.Format.STRING)
    found: dict[str, object] = vars(kind).get("__annotations__", {})
    return found


def _allows_none(annotation: object) -> bool:
    """Return whether an annotation, text or not, is `X | None`, `Optional[X]` or `Union[X, None]`."""
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        return _tree_allows_none(_parsed(annotation))
    return annotation in (None, NoneType) or any(map(_allows_none, get_args(annotation)))


def _tree_allows_none(tree: ast.expr | None) -> bool:
    match tree:
        case ast.Constant(value=None):
            return True
        case ast.Constant(value=str(quoted)):
            return _allows_none(quoted)
        case ast.BinOp(left=left, right=right):
            return _tree_allows_none(left) or _tree_allows_none(right)
        case ast.Tuple(elts=parts):
            return any(map(_tree_allows_none, parts))
        case ast.Subscript(value=generic, slice=parameters):
            name = ast.unparse(generic).rpartition(".")[2]
            return name == "Optional" or (name in ("Union", "Annotated") and _tree_allows_none(parameters))
    return False


def _parsed(text: str) -> ast.expr | None:
    """Return an annotation as a tree; None if it is no expression. It may be quoted twice."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    is_quoted = isinstance(tree, ast.Constant) and isinstance(tree.value, str)
    return _parsed(ast.literal_eval(tree)) if is_quoted else tree


def _is_no_driver(annotation: object) -> bool:
    """Return whether an annotation is that of a class variable or a constant."""
    if not isinstance(annotation, str):
        return getattr(get_origin(annotation) or annotation, "__name__", "") in _NO_DRIVERS
    tree = _parsed(annotation)
    name = ast.unparse(tree.value if isinstance(tree, ast.Subscript) else tree) if tree is not None else ""
    return name.rpartition(".")[2] in _NO_DRIVERS

"""
Jumpstarter's package of adapters, each of which is imported when somebody first asks for it.

The client of a serial port needs one of the adapters in `jumpstarter_driver_network`. Their package imports all of
them, with 240 modules for SSH, VNC and D-Bus: 0.1 s and 15 MiB in each process that connects to a board with a console.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "jumpstarter_driver_network.adapters"


@contextmanager
def lazy_adapters() -> Iterator[None]:
    """If the package of adapters is imported meanwhile, for the first time, make it lazy."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class LazyPackage(ModuleType):
    """
    A package whose names are imported from its modules when they are first looked up.

    Attributes:
        homes: The module of the package that has each name.
    """

    homes: Mapping[str, str]

    def __getattr__(self, name: str) -> object:
        if name in self.homes.values():  # a module of the package, which importing the package always loads
            return import_module(f".{name}", self.__name__)
        if name not in self.homes:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f".{self.homes[name]}", self.__name__), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.homes, *self.homes.values()})


class _Finder(MetaPathFinder):
    """Finds the package, if its code only imports from its own modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a lazy package; None lets other finders find the package, or any other module."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == PACKAGE else None
        if spec is None or not isinstance(spec.loader, InspectLoader):
            return None
        if (homes := _homes(spec.loader.get_source(fullname) or "")) is None:
            return None
        spec.loader = _LazyLoader(spec.loader, homes)
        return spec


class _LazyLoader(Loader):
    """Makes the package, and leaves it to its own loader."""

    def __init__(self, loader: Loader, homes: Mapping[str, str]) -> None:
        self._loader = loader
        self._homes = homes

    def exec_module(self, module: ModuleType) -> None:
        """Make the module lazy instead of running its code."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        module.__class__ = LazyPackage
        module.homes = self._homes  # type: ignore[attr-defined]  # of the class above
        module.__all__ = list(self._homes)  # type: ignore[attr-defined]  # what `import *` reads


def _homes(source: str) -> dict[str, str] | None:
    """Return which of its modules each name of a package comes from; None if its code does anything else."""
    homes: dict[str, str] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.ImportFrom(level=1, module=str(home), names=names) if all(map(_is_plain, names)):
                homes |= {each.name: home for each in names}
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Expr(value=ast.Constant()):
                pass
            case _:
                return None
    return homes


def _is_plain(alias: ast.alias) -> bool:
    return alias.name != "*" and alias.asname is None

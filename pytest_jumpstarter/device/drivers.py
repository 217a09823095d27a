"""The driver clients of a device by their dotted paths, and clear errors for those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

from pytest_jumpstarter.errors import ConfigError, DriverMissing, DriverNotAllowed, JumpstarterError

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.device.lazy_composite import LazyChildren
    from pytest_jumpstarter.device.missing_driver import MissingDriver

AnyClient: TypeAlias = Any
"""A driver client; its methods are those of its class, which only the lab knows."""

CLIENT_LABEL = "jumpstarter.dev/client"

LAZY_CHILDREN = "_jumpstarter_children"
"""The attribute of a composite client with children that may not be built yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPolicy:
    """
    The rules of the client config for which driver clients may be imported.

    Attributes:
        allow: Patterns for class paths, with `*` and `?`, such as `jumpstarter_driver_*`.
        unsafe: Whether every class may be imported, whatever `allow` says.
        source: Where `allow` comes from, for error messages: `drivers.allow of client config FILE`.
    """

    allow: tuple[str, ...] = ()
    unsafe: bool = False
    source: str

    def allows(self, class_path: str) -> bool:
        """Return whether the class may be imported."""
        return self.unsafe or any(fnmatchcase(class_path, pattern) for pattern in self.allow)

    def objection(self, path: str, class_path: str) -> ConfigError | None:
        """Return why the driver at `path` can have no client, or None if it can; the root's path is empty."""
        driver = f"driver {path!r}" if path else "the board's root driver"
        if not self.allows(class_path):
            return DriverNotAllowed(
                f"{driver} needs {class_path}, which {self.source} does not allow; "
                f"add it there (now: {', '.join(self.allow) or 'nothing'}), or UNSAFE to allow every class"
            )
        module, _, name = class_path.rpartition(".")
        try:
            getattr(import_module(module), name)
        except ModuleNotFoundError as exc:
            if f"{module}.".startswith(f"{exc.name}."):  # the module itself is missing, not a library that it imports
                package = class_path.partition(".")[0].replace("_", "-")
                return DriverMissing(f"{driver} needs {class_path}, which is not installed; pip install {package}")
            return DriverMissing(f"{driver} needs {class_path}, which cannot be imported: {exc}")
        except JumpstarterError:  # a signal handler may raise that the device is lost
            raise
        except Exception as exc:
            return DriverMissing(f"{driver} needs {class_path}, which cannot be imported: {type(exc).__name__}: {exc}")
        return None


class DriverPlace(NamedTuple):
    """
    One place in the tree of drivers, as the exporter reports it.

    Attributes:
        parent: The dotted path of the parent driver; empty for the root.
        name: The name of the driver in its parent.
        uuid: The driver's UUID; the same driver may be at several places (`ref:`).
        class_path: The class of the driver client.
    """

    parent: str
    name: str
    uuid: str
    class_path: str


class Drivers(Mapping[str, AnyClient]):
    """
    All driver clients of a device by their dotted paths, such as `storage` or `rack.port1.power`, parents first.

    Each is taken from the `children` of its parent; some of them are built when they are first looked up.

    Args:
        root: The driver client that is the ancestor of all others.
        places: The place of each driver by its path.
        built: The clients that are already built; `add_built` adds others.

    Attributes:
        root: As given.
        places: As given.
        built: The clients that were built so far, by path.
        is_closed: Whether no more clients may be built.
        motd: The exporter's message of the day (after 0.9); empty if there is none.
    """

    def __init__(
        self, root: DriverClient, places: Mapping[str, DriverPlace], built: Mapping[str, DriverClient]
    ) -> None:
        self.root = root
        self.places = places
        self.built = dict(built)
        self.is_closed = False
        self.motd = ""
        self._watchers: list[Callable[[str, DriverClient], None]] = []

    def __getitem__(self, path: str) -> AnyClient:
        place = self.places[path]
        parent: DriverClient = self[place.parent] if place.parent else self.root
        if is_missing(parent):
            return parent
        if place.name not in (children := children_of(parent)):
            from pytest_jumpstarter.device.missing_driver import MissingDriver

            reason = f"driver {path!r} is not among the children of its parent's client"
            return MissingDriver(DriverMissing(reason), uuid=place.uuid)
        return children[place.name]

    def __contains__(self, path: object) -> bool:
        return path in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def usable(self, paths: Iterable[str]) -> list[str]:
        """
        Return those of `paths` at which drivers can be used, one for each driver: the shortest.

        If no driver can be used, return the first path, whose error then says why.
        """
        paths = list(paths)
        found: dict[str, str] = {}
        for path in sorted(paths, key=len):
            uuid = self.places[path].uuid
            if uuid not in found and not is_missing(self[path]):
                found[uuid] = path
        return [path for path in paths if path == found.get(self.places[path].uuid)] or paths[:1]

    def reported(self, module: str) -> list[str]:
        """Return the paths of drivers whose client class is in `module` according to the exporter; builds nothing."""
        return [path for path, place in self.places.items() if place.class_path.rpartition(".")[0] == module]

    def built_of(self, module: str) -> list[str]:
        """Return the paths of built clients whose class, or a base class of it, is in `module`."""
        return [path for path, client in self.built.items() if derives_from(client, module)]

    def watch_built(self, watcher: Callable[[str, DriverClient], None]) -> None:
        """Call `watcher` with the path and client of each driver that is already built, or will be."""
        self._watchers.append(watcher)
        for path, client in self.built.items():
            watcher(path, client)

    def add_built(self, built: Mapping[str, DriverClient]) -> None:
        """Add new clients, after the watchers have seen them and before anybody else has."""
        for path, client in built.items():
            for watcher in self._watchers:
                watcher(path, client)
        self.built |= built

    def close(self) -> None:
        """Close the clients that are built; no more can be built."""
        self.is_closed = True
        self._watchers.clear()
        self.root.close()  # type: ignore[no-untyped-call]  # Jumpstarter's


def derives_from(client: object, module: str) -> bool:
    """Return whether the class of a driver client, or a base class of it, is in `module`."""
    return any(base.__module__ == module for base in type(client).__mro__)


def children_of(client: DriverClient) -> Mapping[str, AnyClient] | LazyChildren:
    """Return the children of a driver client; of a lazy composite those that it knows, without building any."""
    lazy: LazyChildren | None = vars(client).get(LAZY_CHILDREN)
    return client.children if lazy is None else lazy


def is_missing(client: object) -> TypeGuard[MissingDriver]:
    """Return whether a driver cannot be used, so that this is only in its place."""
    from pytest_jumpstarter.device.missing_driver import MissingDriver

    return isinstance(client, MissingDriver)

"""The tree of driver clients: dotted paths, and clear words for the ones that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pytest_jumpstarter.errors import ConfigError, DriverMissing, DriverNotAllowed, JumpstarterError

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

CLIENT_LABEL = "jumpstarter.dev/client"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverPolicy:
    """
    Which driver clients may be imported, as the client config says.

    Attributes:
        allow: Patterns with `*` and `?` for class paths, such as `jumpstarter_driver_*`.
        unsafe: Whether everything may, whatever `allow` says.
        source: Where `allow` was read, for error messages: `drivers.allow of client config FILE`.
    """

    allow: tuple[str, ...] = ()
    unsafe: bool = False
    source: str

    def allows(self, class_path: str) -> bool:
        """Tell whether the class may be imported."""
        return self.unsafe or any(fnmatchcase(class_path, pattern) for pattern in self.allow)

    def objection(self, path: str, class_path: str) -> ConfigError | None:
        """Return the error that says why there can be no client for the driver at `path`; the root's is empty."""
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
            if f"{module}.".startswith(f"{exc.name}."):  # not a library that it needs
                package = class_path.partition(".")[0].replace("_", "-")
                return DriverMissing(f"{driver} needs {class_path}, which is not installed; pip install {package}")
            return DriverMissing(f"{driver} needs {class_path}, which cannot be imported: {exc}")
        except JumpstarterError:  # of a lost device, which a signal may bring
            raise
        except Exception as exc:
            return DriverMissing(f"{driver} needs {class_path}, which cannot be imported: {type(exc).__name__}: {exc}")
        return None


class MissingDriver:
    """
    Stand where a driver client should be, and say on first use why it is not there.

    A board may have drivers that a suite never touches; they need not be installed.

    Attributes:
        error: What is raised then.
        is_passing: Whether there may be one the next time.
    """

    def __init__(self, error: JumpstarterError, *, is_passing: bool = False) -> None:
        self.error = error
        self.is_passing = is_passing

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name == "cli":  # a command line leaves out what has none
            raise AttributeError(name)
        raise self.error.with_traceback(None)

    def __repr__(self) -> str:
        return f"<MissingDriver: {self.error}>"

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class DriverPlace(NamedTuple):
    """
    Where a driver stands in the tree, as the exporter reports it.

    Attributes:
        parent: The dotted path of the driver that it belongs to; empty for the root.
        name: Its name there.
        uuid: The driver's own, which is the same wherever else it stands (`ref:`).
        class_path: The class of its client.
    """

    parent: str
    name: str
    uuid: str
    class_path: str


class Drivers(Mapping[str, Any]):
    """
    Every driver client of a device by its dotted path, such as `storage` or `rack.port1.power`, parents first.

    What stands at a path is what the parent's `children` hold there; some of these are built when first looked up.

    Args:
        root: The driver client that is the parent of all.
        places: The place of each by its path.
        built: Those that are built already; who builds another calls `add_built`.

    Attributes:
        root: As given.
        places: As given.
        built: Path and client of each that was built so far.
        is_closed: Whether none is built any more.
    """

    def __init__(self, root: Any, places: Mapping[str, DriverPlace], built: Mapping[str, Any]) -> None:
        self.root = root
        self.places = places
        self.built = dict(built)
        self.is_closed = False
        self._watchers: list[Callable[[str, Any], None]] = []

    def __getitem__(self, path: str) -> Any:
        place = self.places[path]
        parent = self[place.parent] if place.parent else self.root
        if isinstance(parent, MissingDriver):
            return parent
        if place.name not in parent.children:
            return MissingDriver(DriverMissing(f"driver {path!r} is not among the children of the client above it"))
        return parent.children[place.name]

    def __contains__(self, path: object) -> bool:
        return path in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def usable(self, paths: Iterable[str]) -> list[str]:
        """Return of some paths one for each driver, the shortest at which it is there; one in all where none is."""
        paths = list(paths)
        found: dict[str, str] = {}
        for path in sorted(paths, key=len):
            uuid = self.places[path].uuid
            if uuid not in found and not isinstance(self[path], MissingDriver):
                found[uuid] = path
        return [path for path in paths if path == found.get(self.places[path].uuid)] or paths[:1]

    def reported(self, module: str) -> list[str]:
        """Return the paths of drivers whose client's class is of a module, by the exporter's word: nothing is built."""
        return [path for path, place in self.places.items() if place.class_path.rpartition(".")[0] == module]

    def built_of(self, module: str) -> list[str]:
        """Return the paths of drivers that are built, and whose class is of a module or derives from one that is."""
        return [path for path, client in self.built.items() if derives_from(client, module)]

    def watch_built(self, watcher: Callable[[str, Any], None]) -> None:
        """Call `watcher` with path and client of each driver that is built, now or later."""
        self._watchers.append(watcher)
        for path, client in self.built.items():
            watcher(path, client)

    def add_built(self, built: Mapping[str, Any]) -> None:
        """Show the watchers what was built, before anybody has it."""
        for path, client in built.items():
            for watcher in self._watchers:
                watcher(path, client)
        self.built |= built

    def close(self) -> None:
        """Close what is built, and let no more be built."""
        self.is_closed = True
        self._watchers.clear()
        self.root.close()


def derives_from(client: Any, module: str) -> bool:
    """Tell whether a driver client's class, or one that it derives from, is of a module."""
    return any(base.__module__ == module for base in type(client).__mro__)


def mark_missing(client: DriverClient, path: str, policy: DriverPolicy) -> Any:
    """
    Put a `MissingDriver` in place of each stub that Jumpstarter left for a class it could not or must not import.

    Args:
        client: What stands at `path`, with all below it.
        path: Its dotted path; empty for the root.
        policy: Says which it was.

    Returns:
        What is to stand there.
    """
    from jumpstarter.client.base import StubDriverClient

    if isinstance(client, StubDriverClient):
        class_path = client.labels[CLIENT_LABEL]
        error = policy.objection(path, class_path) or DriverMissing(f"there was no {class_path} for driver {path!r}")
        return MissingDriver(error)
    for name, child in client.children.items():
        client.children[name] = mark_missing(child, f"{path}.{name}" if path else name, policy)
    return client

"""The tree of driver clients: dotted paths, and clear words for the ones that are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    def refusal(self, path: str, class_path: str) -> ConfigError:
        """Return the error that says why there is no client for the driver at `path`; the root's is empty."""
        driver = f"driver {path!r}" if path else "the board's root driver"
        if not self.allows(class_path):
            return DriverNotAllowed(
                f"{driver} needs {class_path}, which {self.source} does not allow; "
                f"add it there (now: {', '.join(self.allow) or 'nothing'}), or UNSAFE to allow every class"
            )
        if failure := _import_failure(class_path):
            return DriverMissing(f"{driver} needs {class_path}, which cannot be imported: {failure}")
        package = class_path.partition(".")[0].replace("_", "-")
        return DriverMissing(f"{driver} needs {class_path}, which is not installed; pip install {package}")


def _import_failure(class_path: str) -> str:
    """Return why a class that is installed cannot be imported; nothing where it is not installed."""
    module, _, name = class_path.rpartition(".")
    try:
        getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        is_its_own = f"{module}.".startswith(f"{exc.name}.")
        return "" if is_its_own else str(exc)
    except (ImportError, AttributeError, ValueError) as exc:  # ValueError for a name without a dot
        return str(exc)
    return ""


class MissingDriver:
    """
    Stand where a driver client should be, and say on first use why it is not there.

    A board may have drivers that a suite never touches; they need not be installed.

    Attributes:
        error: What is raised then.
    """

    def __init__(self, error: JumpstarterError) -> None:
        self.error = error

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.error

    def __repr__(self) -> str:
        return f"<MissingDriver: {self.error}>"

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class Place(NamedTuple):
    """
    Where a driver stands in the tree.

    Attributes:
        parent: The dotted path of the driver that it belongs to; empty for the root.
        name: Its name there.
        uuid: The driver's own, which is the same wherever else it stands (`ref:`).
    """

    parent: str
    name: str
    uuid: str


class Drivers(Mapping[str, Any]):
    """
    Every driver client of a device by its dotted path, such as `storage` or `rack.port1.power`, parents first.

    What stands at a path is what the parent's `children` hold there; some of these are built when first asked for.

    Args:
        root: The driver client that is the parent of all.
        places: The place of each by its path.
        built: The paths of those that are built already; who builds another calls `on_built`.

    Attributes:
        root: As given.
        is_closed: Whether none is built any more.
    """

    def __init__(self, root: DriverClient, places: Mapping[str, Place], built: Iterable[str] = ()) -> None:
        self.root = root
        self.is_closed = False
        self._places = places
        self._built = list(built)
        self._watchers: list[Callable[[str, Any], None]] = []

    @classmethod
    def of_tree(cls, root: DriverClient) -> Drivers:
        """Return all that stand below a root, each of them built."""
        places = dict(walk(root))
        return cls(root, places, built=places)

    def __getitem__(self, path: str) -> Any:
        place = self._places[path]
        parent = self[place.parent] if place.parent else self.root
        return parent if isinstance(parent, MissingDriver) else parent.children[place.name]

    def __contains__(self, path: object) -> bool:
        return path in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shortest(self, path: str) -> str:
        """Return the shortest path at which the driver at `path` stands."""
        uuid = self._places[path].uuid
        return min((each for each, place in self._places.items() if place.uuid == uuid), key=len)

    def of_module(self, module: str) -> dict[str, Any]:
        """Return the clients whose class, or one that it derives from, is of a module, each at its shortest path."""
        found = (path for path, driver in self.items() if derives_from(driver, module))
        return {path: self[path] for path in map(self.shortest, found)}

    def each(self, watcher: Callable[[str, Any], None]) -> None:
        """Call `watcher` with path and client of each driver that is built, now or later, and is not missing."""
        self._watchers.append(watcher)
        for path in self._built:
            self._show(path, watcher)

    def on_built(self, paths: Sequence[str]) -> None:
        """Show the watchers the clients at these paths, which were built just now."""
        self._built += paths
        for path in paths:
            for watcher in self._watchers:
                self._show(path, watcher)

    def close(self) -> None:
        """Close what is built, and let no more be built."""
        self.is_closed = True
        self._watchers.clear()
        self.root.close()  # type: ignore[no-untyped-call]

    def _show(self, path: str, watcher: Callable[[str, Any], None]) -> None:
        if not isinstance(client := self[path], MissingDriver):
            watcher(path, client)


def derives_from(driver: Any, module: str) -> bool:
    """Tell whether a driver client's class, or one that it derives from, is of the module named."""
    return not isinstance(driver, MissingDriver) and any(base.__module__ == module for base in type(driver).__mro__)


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
        return MissingDriver(policy.refusal(path, client.labels[CLIENT_LABEL]))
    for name, child in client.children.items():
        client.children[name] = mark_missing(child, f"{path}.{name}" if path else name, policy)
    return client


def walk(parent: Any, path: str = "") -> Iterator[tuple[str, Place]]:
    """Yield path and place of all below the driver client at `path`, parents before children."""
    if isinstance(parent, MissingDriver):
        return
    for name, child in parent.children.items():
        below = f"{path}.{name}" if path else name
        yield below, Place(path, name, "" if isinstance(child, MissingDriver) else str(child.uuid))
        yield from walk(child, below)

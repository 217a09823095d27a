"""The tree of driver clients: dotted paths, and clear words for the ones that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_jumpstarter.errors import ConfigError, DriverMissing, DriverNotAllowed

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
        package = class_path.partition(".")[0].replace("_", "-")
        return DriverMissing(f"{driver} needs {class_path}, which is not installed; pip install {package}")


class MissingDriver:
    """
    Stand where a driver client should be, and say on first use why it is not there.

    A board may have drivers that a suite never touches; they need not be installed.
    """

    def __init__(self, error: ConfigError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._error

    def __repr__(self) -> str:
        return f"<MissingDriver: {self._error}>"

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def mark_missing(root: DriverClient, policy: DriverPolicy) -> None:
    """
    Put a `MissingDriver` in place of each stub that Jumpstarter left for a class it could not or must not import.

    Raises:
        DriverMissing, DriverNotAllowed: The root itself is such a stub, so that nothing of the device can be used.
    """
    from jumpstarter.client.base import StubDriverClient

    if isinstance(root, StubDriverClient):
        raise policy.refusal("", root.labels[CLIENT_LABEL])
    for path, parent, name in list(_walk(root)):  # Jumpstarter's stubs have children too, if only none
        child = parent.children[name]
        if isinstance(child, StubDriverClient):
            parent.children[name] = MissingDriver(policy.refusal(path, child.labels[CLIENT_LABEL]))


def driver_paths(root: DriverClient) -> dict[str, Any]:
    """Return each driver client below `root` by its dotted path, parents before children."""
    return {path: parent.children[name] for path, parent, name in _walk(root)}


def _walk(parent: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted path, parent, name) for all below `parent`."""
    for name in parent.children:
        path = f"{prefix}{name}"
        yield path, parent, name
        if not isinstance(child := parent.children[name], MissingDriver):
            yield from _walk(child, f"{path}.")

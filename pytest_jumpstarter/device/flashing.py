"""
`Flashing`: flashes an image once.

What this lease has flashed successfully is known by its digest, for each driver and target. An image that is there is
not flashed again. What else changes the board through the same driver makes this unknown, and so does a flash that
fails. What other leases did is not known at all.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pexpect import ExceptionPexpect

from pytest_jumpstarter.device.call_window import leaves
from pytest_jumpstarter.device.drivers import Drivers, is_missing
from pytest_jumpstarter.device.serial_ports import SerialPorts
from pytest_jumpstarter.device.transfers import Transfers
from pytest_jumpstarter.errors import FlasherNotFound

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

Image: TypeAlias = str | os.PathLike[str]
"""A file, a folder, or a URL."""

Images: TypeAlias = Image | Mapping[str, Image]
"""An image, or one for each of several targets."""

_CHANGES = re.compile(r"^(flash|write|erase|format|program|provision)|(^|_)(flash|erase|format)(_|$)")
"""The names of methods of a flasher that change what is on the board."""


class Flashing:
    """
    Flashes the images of one lease, each once.

    Args:
        transfers: Shows each flash.
        ports: The ports that a flasher may need for itself.
        is_always: Whether an image is flashed although it is there.
        on_change: Called, with what happens, before anything is flashed.
    """

    def __init__(
        self,
        drivers: Drivers,
        transfers: Transfers,
        ports: SerialPorts,
        *,
        is_always: bool,
        on_change: list[Callable[[str], None]],
    ) -> None:
        self._drivers = drivers
        self._transfers = transfers
        self._ports = ports
        self._is_always = is_always
        self._on_change = on_change
        self._known: dict[str, dict[str | None, str]] = {}
        self._flashing = ""
        drivers.watch_built(self._watch)

    def flash(
        self,
        image: Images,
        *,
        driver: str | None,
        target: str | None,
        verify: Callable[[], bool] | None,
        force: bool,
        digest: str | None,
        options: Mapping[str, object],
    ) -> bool:
        """Flash, unless the image is there; return whether it was flashed. See `Device.flash`."""
        path = self._flasher(driver)
        wanted = _fingerprints(image, target, digest, options)
        if not (force or self._is_always) and self._is_there(path, wanted, verify):
            self._transfers.skip(path, _name(image))
            return False
        given = dict(options) if target is None else {**options, "target": target}
        uuid = self._drivers.places[path].uuid
        self._change(path, wanted)
        free = self._ports.free(self._ports.below(path), f"{path} flashes")
        with _alone(), self._transfers.flash(path, _name(image)), free, self._own(uuid):
            self._drivers[path].flash(image, **given)
        self._known.setdefault(uuid, {}).update(wanted)
        return True

    def _is_there(self, path: str, wanted: Mapping[str | None, str], verify: Callable[[], bool] | None) -> bool:
        known = self._known.setdefault(self._drivers.places[path].uuid, {})
        if all(known.get(target) == digest for target, digest in wanted.items()):
            return True
        if verify is None or not known.keys().isdisjoint(wanted) or not _holds(verify):
            return False
        known.update(wanted)
        return True

    @contextmanager
    def _own(self, uuid: str) -> Iterator[None]:
        """Note that calls of the flasher are parts of a change that is known."""
        before, self._flashing = self._flashing, uuid
        try:
            yield
        finally:
            self._flashing = before

    def _change(self, path: str, targets: Mapping[str | None, str] | None = None) -> None:
        """Forget what a flash changes, which is everything if it, or an earlier one, is not for a target."""
        known = self._known.get(self._drivers.places[path].uuid, {})
        if targets is None or None in targets or None in known:
            known.clear()
        for target in targets or ():
            known.pop(target, None)
        for listener in self._on_change:
            listener(f"{path} flashes it")

    def _flasher(self, driver: str | None) -> str:
        """Return the path of the driver to flash with."""
        if driver is not None:
            if driver not in self._drivers:
                raise FlasherNotFound(f"there is no driver {driver!r}; there are {', '.join(self._drivers)}")
            if not _can_flash(client := self._drivers[driver]) and not is_missing(client):
                raise FlasherNotFound(f"driver {driver!r} ({type(client).__name__}) has no method `flash`")
            return driver
        found = self._drivers.usable(path for path, client in self._drivers.items() if _can_flash(client))
        outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
        if len(outer) == 1:
            return outer[0]
        if outer:
            raise FlasherNotFound(
                f"{len(outer)} drivers can flash ({', '.join(outer)}); choose one: dut.flash(image, driver='PATH')"
            )
        raise FlasherNotFound(f"no driver can flash; there are {', '.join(self._drivers) or 'none'}")

    def _watch(self, path: str, client: DriverClient) -> None:
        """Notice whatever else changes the board through a flasher."""
        if not _can_flash(client):
            return
        uuid = self._drivers.places[path].uuid

        def noted(function: Callable[..., object], *, is_call: bool = False) -> Callable[..., object]:
            @wraps(function)
            def call(*args: object, **kwargs: object) -> object:
                method = str(args[0]) if is_call and args else function.__name__
                if self._flashing == uuid or not _CHANGES.search(method):
                    return function(*args, **kwargs)
                self._change(path)
                with self._own(uuid):
                    return function(*args, **kwargs)

            return call

        for name in ("call", "streamingcall"):
            setattr(client, name, noted(getattr(client, name), is_call=True))
        for name in dir(type(client)):
            if _CHANGES.search(name) and callable(getattr(type(client), name)):
                setattr(client, name, noted(getattr(client, name)))


@contextmanager
def _alone() -> Iterator[None]:
    """Raise the only error of a group: Jumpstarter's transfers raise groups, even for Ctrl-C."""
    try:
        yield
    except BaseExceptionGroup as exc:
        found = list(leaves(exc))
        if len(found) > 1:
            raise
        error = found[0]
    else:
        return
    raise error


def _can_flash(client: object) -> bool:
    return not is_missing(client) and callable(getattr(type(client), "flash", None))


def _holds(verify: Callable[[], bool]) -> bool:
    """Return whether `verify` returns a true value; a board that says nothing, or something else, is not verified."""
    try:
        return bool(verify())
    except (AssertionError, TimeoutError, ExceptionPexpect):
        return False


def _name(image: Images) -> str:
    """Return a short name of an image, for people."""
    if isinstance(image, Mapping):
        return ", ".join(image)
    text = os.fspath(image)
    if "://" in text:  # its query may hold a secret, and so may what precedes its host
        host, _, path = re.split("[?#]", text.partition("://")[2])[0].partition("/")
        text = path.strip("/") or host.rpartition("@")[2]
    return text.rstrip("/").rpartition("/")[2]


def _fingerprints(
    image: Images, target: str | None, digest: str | None, options: Mapping[str, object]
) -> dict[str | None, str]:
    """Return what identifies the image for each target: its digest, and the options with which it is flashed."""
    if isinstance(image, Mapping):
        if target is not None:
            raise TypeError(f"target={target!r}: an image for each of several targets has no target of its own")
        images: dict[str | None, Image] = dict(image.items())
    else:
        images = {target: image}
    is_elsewhere = "operator" in options  # opendal's, which reads the path from a storage of its own
    shown = "".join(f" {name}={value!r}" for name, value in sorted(options.items()))
    return {
        each: (digest or (os.fspath(path) if is_elsewhere else _digest(path))) + shown for each, path in images.items()
    }


def _digest(image: Image) -> str:
    """Return the digest of a file, or of a folder with all files in it; of a URL the text."""
    text = os.fspath(image)
    if "://" in text:
        return text
    path = Path(text)
    if not path.is_dir():
        return _digest_of_file(path)
    found = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file() or each.is_symlink()):
        content = _digest_of_file(each) if each.is_file() else os.fspath(each.readlink())
        found.update(f"{each.relative_to(path).as_posix()}\0{content}\0".encode("utf-8", "surrogateescape"))
    return f"folder {found.hexdigest()}"


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

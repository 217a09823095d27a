"""
What a driver raises when an exporter starts, in plain words.

The message says which driver it is, of which class, what is wrong, and what to do: the options that the class has, the
reason of the operating system, who may open a port and who has it open.
"""

from __future__ import annotations

import errno
import inspect
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import FrameType
from typing import Any

from pytest_jumpstarter.lab.ports import holders, not_permitted, objection, texts_of

_IN_USE = {errno.EBUSY, errno.EAGAIN, errno.EADDRINUSE}
_GONE = {errno.ENODEV, errno.ENXIO, errno.EIO}


@dataclass(frozen=True, slots=True)
class _Configured:
    """A driver of an exporter config: its dotted path, its class path, and its options."""

    path: str
    type: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"driver {self.path!r} ({self.type})"


def explain(error: BaseException, export: Mapping[str, Any]) -> str:
    """
    Return why an exporter does not start.

    Args:
        error: What was raised.
        export: The drivers of the exporter config, as Jumpstarter has read them.
    """
    driver = _driver_of(error, export)
    if driver is None:
        return words(error)
    return f"{driver}{_wrong_options(error, driver) or f': {_reason(error, driver)}'}"


def ignored_options(export: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each option that its driver class does not have; some classes ignore such options."""
    for _, driver in _configured(export, ""):
        options = _options_of(driver.type) if "." in driver.type else None
        for name in [name for name in driver.options if options is not None and name not in options]:
            yield f"{driver} has no option {name!r}, and ignores it; its options: {_shown(options or {})}"


def words(error: BaseException) -> str:
    """Return class and text of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def named(path: str, type_: str) -> str:
    """Return how messages name a driver."""
    return str(_Configured(path, type_, {}))


def _driver_of(error: BaseException, export: Mapping[str, Any]) -> _Configured | None:
    """Return the driver that was made when the error was raised: Jumpstarter's frames have its config as `self`."""
    known = {id(config): driver for config, driver in _configured(export, "")}
    found = None
    for frame in _frames(error):
        found = known.get(id(frame.f_locals.get("self")), found)
    return found


def _configured(children: Mapping[str, Any], above: str) -> Iterator[tuple[Any, _Configured]]:
    for name, config in children.items():
        root = getattr(config, "root", config)
        path = f"{above}{name}"
        yield config, _Configured(path, getattr(root, "type", "no class"), getattr(root, "config", {}))
        yield from _configured(getattr(root, "children", {}), f"{path}.")


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _wrong_options(error: BaseException, driver: _Configured) -> str:
    """Return which options the class does not have, lacks or does not accept; empty if the options are not at fault."""
    if not isinstance(error, TypeError | ValueError):
        return ""
    options = _options_of(driver.type)
    if options is None:
        return ""
    unknown = [name for name in driver.options if name not in options]
    missing = [name for name, it in options.items() if it.default is it.empty and name not in driver.options]
    if unknown:
        near = get_close_matches(unknown[0], options, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        lacks = f", and needs {_listed(missing)}" if missing and not near else ""
        return f" has no option {unknown[0]!r}{hint}{lacks}; its options: {_shown(options)}"
    if missing:
        return f" needs option {_listed(missing)}; its options: {_shown(options)}"
    if callable(details := getattr(error, "errors", None)):  # of pydantic
        wrong = "; ".join(f"option {'.'.join(map(str, each['loc']))!r}: {each['msg']}" for each in details())
        return f": {wrong}; its options: {_shown(options)}"
    return ""


def _options_of(type_: str) -> dict[str, inspect.Parameter] | None:
    """Return the options of a driver class by name, without those that every driver has; None if it takes any."""
    from jumpstarter.driver import Driver

    module, _, name = type_.rpartition(".")
    try:
        parameters = _parameters(getattr(import_module(module), name))
    except Exception:  # it is no class, or has no signature
        return None
    if any(it.kind is it.VAR_KEYWORD for it in parameters.values()):
        return None
    common = {"self", *_parameters(Driver)}
    return {name: it for name, it in parameters.items() if name not in common}


def _parameters(class_: type) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of the constructor; a signature that pydantic wrote for a base class is not that of it."""
    owner = next(each for each in class_.__mro__ if "__init__" in vars(each))
    return inspect.signature(owner if "__signature__" in vars(owner) else vars(owner)["__init__"]).parameters


def _shown(options: Mapping[str, inspect.Parameter]) -> str:
    return ", ".join(_shown_option(name, it) for name, it in options.items()) or "none"


def _shown_option(name: str, option: inspect.Parameter) -> str:
    if option.default is option.empty:
        return f"{name} (required)"
    is_plain = isinstance(option.default, str | int | float | bool)
    return f"{name}={option.default!r}" if is_plain else name


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _reason(error: BaseException, driver: _Configured) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs module {error.name}, which is not installed"
    cause = _system_error(error)
    if cause is None:
        return f"{words(error)}{_quoted_option(error, driver)}"
    return _system_reason(cause, _target(error, driver), _is_of_program(error)) or words(error)


def _quoted_option(error: BaseException, driver: _Configured) -> str:
    """Return the options whose value an error quotes, and those that there are; empty if it quotes none."""
    quoted = [name for name, value in driver.options.items() if repr(value) in str(error)]
    options = _options_of(driver.type) if quoted and isinstance(error, TypeError | ValueError) else None
    return f"; check option {_listed(quoted)}; its options: {_shown(options)}" if options else ""


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the operating system that an error is, or that it comes from; None if there is none."""
    outermost = error if isinstance(error, OSError) else None
    while error is not None:
        if isinstance(error, socket.gaierror | TimeoutError) or (
            isinstance(error, OSError) and error.errno is not None
        ):
            return error
        error = error.__cause__ or error.__context__
    return outermost


def _target(error: BaseException, driver: _Configured) -> str:
    """Return the file or address that an error is about: the one that it names, or the option that its text quotes."""
    if isinstance(named_file := getattr(error, "filename", None), str):
        return named_file
    texts = [text for text in texts_of(driver.options) if "/" in text or ":" in text]
    quoted = [text for text in texts if text in str(error)]
    return (quoted or texts or [""])[0]


def _is_of_program(error: BaseException) -> bool:
    """Return whether the error comes from an attempt to start a program."""
    return any(frame.f_code.co_filename.endswith(("subprocess.py", "pexpect/pty_spawn.py")) for frame in _frames(error))


def _system_reason(error: OSError, target: str, is_of_program: bool) -> str:
    """Return an error of the operating system in plain words, with what to do; empty if it has no words of ours."""
    what = target or "what it needs"
    is_port = _is_device(target) or (target.startswith("/") and type(error).__module__.startswith("serial"))
    if isinstance(error, socket.gaierror):
        text = f"the host of {what} cannot be resolved; check its name"
    elif isinstance(error, TimeoutError):
        text = f"{what} does not answer; check its address, its power and the network"
    elif error.errno == errno.ENOENT and is_of_program:
        text = f"the program {what} is not installed, or not in PATH"
    elif error.errno == errno.ENOENT:
        text = objection(target) if is_port else f"{what} does not exist"
    elif error.errno in (errno.EACCES, errno.EPERM):
        text = not_permitted(target) if os.path.exists(target) else f"this user may not use {what}"
    elif error.errno in _IN_USE:
        by = ", ".join(holders(target)) if os.path.exists(target) else ""
        text = (
            f"{what} is in use by {by or f'a program that this user may not see: sudo fuser -v {what}'}; close it there"
        )
    elif error.errno == errno.ECONNREFUSED:
        text = f"nothing listens at {what} (connection refused); check host and port"
    elif error.errno in _GONE:
        text = f"there is no device behind {what} ({error.strerror}); check that it is plugged in and has power"
    else:
        text = objection(target) if is_port else ""
    return text


def _is_device(path: str) -> bool:
    return path.startswith("/dev/")

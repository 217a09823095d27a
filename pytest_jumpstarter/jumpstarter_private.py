"""
All uses of Jumpstarter's private API, each with its reason.

Each name is imported when it is first asked for, so that nobody loads what the suite does not need. Of
`jumpstarter_protocol` only public names are used.
"""

# ruff: noqa: PLC0414  (for type checkers, an alias of the same name is a name that others may import)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.errors import ConfigError

if TYPE_CHECKING:
    from jumpstarter.client.base import StubDriverClient as StubDriverClient
    from jumpstarter.client.client import client_from_channel as client_from_channel
    from jumpstarter.client.core import AsyncDriverClient as AsyncDriverClient
    from jumpstarter.client.core import DriverInvalidArgument as DriverInvalidArgument
    from jumpstarter.client.core import DriverMethodNotImplemented as DriverMethodNotImplemented
    from jumpstarter.client.core import ProgressStream as ProgressStream  # type: ignore[attr-defined, unused-ignore]
    from jumpstarter.common.utils import serve as serve
    from jumpstarter.config.client import ClientConfigV1Alpha1Drivers as ClientConfigV1Alpha1Drivers
    from jumpstarter.config.exporter import ExporterConfigV1Alpha1 as ExporterConfigV1Alpha1
    from jumpstarter.exporter.auth import passphrase_client_interceptors as passphrase_client_interceptors
    from jumpstarter.streams.progress import ProgressAttribute as ProgressAttribute

PRIVATE: Mapping[str, tuple[str, str]] = {
    "AsyncDriverClient": (
        "jumpstarter.client.core",
        "to make plain driver calls in the thread that waits for them: there is no hook around a call",
    ),
    "ClientConfigV1Alpha1Drivers": (
        "jumpstarter.config.client",
        "to read JMP_DRIVERS_ALLOW as it does: it has no function for the list alone",
    ),
    "DriverInvalidArgument": (
        "jumpstarter.client.core",
        "to distinguish a wrong call from a failed one: its errors are exported nowhere else",
    ),
    "DriverMethodNotImplemented": (
        "jumpstarter.client.core",
        "to distinguish a wrong call from a failed one: its errors are exported nowhere else",
    ),
    "ExporterConfigV1Alpha1": (
        "jumpstarter.config.exporter",
        "to run an exporter of the embedded lab: `jmp run` would be a process more, and slower",
    ),
    "ProgressAttribute": (
        "jumpstarter.streams.progress",
        "to know the length of a transfer: its streams tell it by this attribute only",
    ),
    "ProgressStream": (
        "jumpstarter.client.core",
        "to keep its progress bar off: a bar of a transfer that fails goes on until the garbage collector finds it",
    ),
    "StubDriverClient": (
        "jumpstarter.client.base",
        "to find the drivers whose client is not installed or not allowed: it only logs them",
    ),
    "client_from_channel": (
        "jumpstarter.client.client",
        "to build driver clients on a channel of ours: its public function opens a channel of its own",
    ),
    "passphrase_client_interceptors": (
        "jumpstarter.exporter.auth",
        "to send the passphrase of an exporter without a lab controller: only `jmp shell` has this",
    ),
    "serve": (
        "jumpstarter.common.utils",
        "to open the drivers of a bench once, without a lab: no public name does that",
    ),
}
"""Each private name, the module that has it, and why it is needed."""

LOGGER_OF_CLIENTS = "jumpstarter.client.client"
"""The logger that gets its warnings of missing drivers; without it, they would be in the log twice."""

WORDS_OF_MISSING_DRIVER = "Driver client "
"""How these warnings begin."""

ERRORS_OF_CONNECTIONS = (
    ("jumpstarter.client.core", "DriverError"),
    ("jumpstarter.common.exceptions", "ConnectionError"),
    ("jumpstarter.common.exceptions", "ExporterUnreachableError"),
)
"""The errors that a lost connection may end in: modules and names, so that a verdict imports none of them."""


def __getattr__(name: str) -> Any:
    if name not in PRIVATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, why = PRIVATE[name]
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as exc:
        if isinstance(exc, ImportError) and not (exc.name or "").startswith("jumpstarter."):
            raise  # a package that Jumpstarter itself needs
        raise ConfigError(
            f"jumpstarter {version('jumpstarter')} has no {module}.{name}, which pytest-jumpstarter uses {why}; "
            "install a release that README names as tested"
        ) from exc


_has_no_bar: ContextVar[bool] = ContextVar("jumpstarter_has_no_bar", default=False)


@contextmanager
def bar_off() -> Iterator[None]:
    """Keep Jumpstarter's progress bar off for transfers that the current task starts."""
    core: Any = import_module("jumpstarter.client.core")
    with_bar = core.ProgressStream  # `resource_async` of a driver client looks it up here, each time
    if not hasattr(with_bar, "with_bar"):

        def progress_stream(*, stream: Any, **kwargs: Any) -> Any:
            return stream if _has_no_bar.get() else with_bar(stream=stream, **kwargs)

        progress_stream.with_bar = with_bar  # type: ignore[attr-defined]
        core.ProgressStream = progress_stream
    token = _has_no_bar.set(True)
    try:
        yield
    finally:
        _has_no_bar.reset(token)

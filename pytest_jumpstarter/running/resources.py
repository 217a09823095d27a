"""The file descriptors and threads that a device needs: they are checked early, and named if there are too few."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_jumpstarter.errors import ConfigError

DESCRIPTORS = 24
"""File descriptors that one device takes at most: connections, event loop, tunnel, and files that are imported."""

THREADS = 8
"""Threads that one device takes at most: keeper, event loop, dialling, gRPC's own."""

_NO_THREAD = "can't start new thread"  # the text of Python's RuntimeError


def require_descriptors() -> None:
    """
    Check that this process may open the file descriptors that a device needs.

    Raises:
        ConfigError: It may not. Without this check gRPC would end the process, or would not answer.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return
    with suppress(OSError):  # the folder does not exist, or there is no descriptor left to read it
        left = limit - len(os.listdir("/dev/fd"))
        if left < DESCRIPTORS:
            raise ConfigError(
                f"this process may open {max(left, 0)} more file descriptors, and a device needs {DESCRIPTORS}: "
                f"raise `ulimit -n`, which is {limit}, or close files and connections that tests leave open"
            )
        return
    raise ConfigError(f"this process may open no more file descriptors: raise `ulimit -n`, which is {limit}")


def require_threads() -> None:
    """
    Check that this process may start the threads that a device needs, by starting as many.

    Raises:
        ConfigError: It may not. Without this check gRPC would end the process.
    """
    is_over = threading.Event()
    try:
        with named_shortages():
            for _ in range(THREADS):
                threading.Thread(target=is_over.wait, name="jumpstarter-probe", daemon=True).start()
    finally:
        is_over.set()


@contextmanager
def named_shortages() -> Iterator[None]:
    """
    Turn errors that mean a lack of file descriptors or threads into a clear error.

    Raises:
        ConfigError: File descriptors or threads are lacking; trying again would not help.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise ConfigError(f"this process may open no more file descriptors (ulimit -n): {exc}") from exc
    except RuntimeError as exc:
        if _NO_THREAD not in str(exc):
            raise
        raise ConfigError(f"this process may start no more threads (ulimit -u, or a container's limit): {exc}") from exc


def load_reports() -> None:
    """Import now the modules that the reports of failures need, because later no file descriptor may be left for it."""
    import pytest_jumpstarter.report.device_errors
    import pytest_jumpstarter.report.junit_output
    import pytest_jumpstarter.report.on_demand
    import pytest_jumpstarter.report.summary_table  # noqa: F401

"""Forks of a process that uses devices: a warning while gRPC handles them, and a wait while a thread imports."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress

from pytest_jumpstarter.host.grpc_import import FORK_SUPPORT, has_fork_handlers
from pytest_jumpstarter.report.terminal import Terminal

WARNING = (
    "this process forks, and gRPC handles that ({why}): beside a device the child may crash, or the fork hang; "
    f"set {FORK_SUPPORT}=0 for pytest"
)


def warn_of_forks(terminal: Terminal) -> None:
    """Show a warning before the first fork, if gRPC was imported with its handlers of forks."""
    if not has_fork_handlers():
        return
    wanted = FORK_SUPPORT in os.environ
    why = f"{FORK_SUPPORT}={os.environ[FORK_SUPPORT]}" if wanted else "another plugin used it before this one"
    waiting = [weakref.ref(terminal)]  # the handler stays registered until the process ends

    def before() -> None:
        if waiting and threading.current_thread() is threading.main_thread() and (found := waiting.pop()()) is not None:
            with suppress(ValueError):  # its run has ended, and its output is closed
                found.say(WARNING.format(why=why))

    os.register_at_fork(before=before)


def no_fork_during(thread: threading.Thread) -> None:
    """Let forks wait until a thread that imports has ended; in a child, its modules would stay locked for good."""
    waiting = weakref.ref(thread)

    def before() -> None:
        importing = waiting()
        if importing is not None and importing is not threading.current_thread():
            importing.join()

    os.register_at_fork(before=before)

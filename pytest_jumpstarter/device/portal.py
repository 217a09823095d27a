"""
The one event loop beside the tests: Jumpstarter's driver clients and the tunnel run in it.

It is uvloop's where that is installed, which costs a flash or an echo a sixth less CPU time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal


class Portal:
    """
    An event loop in a thread of its own, started when first needed and stopped once.

    `start()` may be called from several threads; they get the same loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._blocking: BlockingPortal | None = None
        self._is_stopped = False

    def start(self) -> BlockingPortal:
        """
        Return the running loop, in the form that Jumpstarter's driver clients take.

        Raises:
            RuntimeError: It was stopped.
        """
        from anyio.from_thread import start_blocking_portal

        with self._lock:
            if self._is_stopped:
                raise RuntimeError("the event loop was stopped")
            if self._blocking is None:
                options = {"use_uvloop": find_spec("uvloop") is not None}
                portal = start_blocking_portal(backend_options=options, name="jumpstarter-portal")
                self._blocking = self._stack.enter_context(portal)
            return self._blocking

    def stop(self) -> None:
        """Cancel what still runs in the loop and end its thread; a second call does nothing."""
        with self._lock:
            self._is_stopped = True
            blocking, self._blocking = self._blocking, None
            if blocking is not None:
                blocking.call(_settle)
                blocking.call(blocking.stop, True)  # cancels what remains
                self._stack.close()


async def _settle() -> None:
    """Let sockets that were closed just now be closed in fact: asyncio does it some steps later."""
    for _ in range(10):
        await asyncio.sleep(0)


class LoopNeeded(RuntimeError):
    """Say that something waits for more than is there already."""


def run_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """
    Run in this thread, without a loop, a coroutine that waits for nothing.

    Raises:
        LoopNeeded: It waits for something.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise LoopNeeded("Jumpstarter's client waits for more than was foreseen")

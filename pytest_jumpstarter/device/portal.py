"""
The event loop, in a thread of its own, in which Jumpstarter's driver clients and the tunnel run.

It is uvloop's if that is installed: a flash or an echo then needs a sixth less CPU time.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from pytest_jumpstarter.errors import DeviceReleased
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_Result = TypeVar("_Result")


class Portal:
    """
    An event loop in a thread of its own, started when first needed and stopped at the end.

    `start()` may be called from several threads; all get the same loop.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._blocking: BlockingPortal | None = None
        self._is_stopped = False

    def start(self) -> BlockingPortal:
        """
        Return the portal to the running loop, as Jumpstarter's driver clients want it; start the loop if needed.

        Raises:
            RuntimeError: The loop was stopped.
        """
        from anyio.from_thread import start_blocking_portal

        with self._lock:
            if self._is_stopped:
                raise RuntimeError("the event loop was stopped")
            if self._blocking is None:
                options = {"use_uvloop": find_spec("uvloop") is not None}
                portal = start_blocking_portal(backend_options=options, name="jumpstarter-portal")
                self._blocking = self._stack.enter_context(portal)
                self._blocking.call(_use_real_time)
            return self._blocking

    def stop(self) -> None:
        """Cancel all tasks in the loop and end its thread; a second call does nothing."""
        with self._lock:
            self._is_stopped = True
            blocking, self._blocking = self._blocking, None
            if blocking is not None:
                blocking.call(_settle)
                blocking.call(blocking.stop, True)  # cancels what remains
                self._stack.close()


async def _use_real_time() -> None:
    """Make the timers of this loop independent of clocks that tests replace; uvloop's are anyway."""
    with suppress(AttributeError):
        asyncio.get_running_loop().time = real_time.monotonic  # type: ignore[method-assign]


async def _settle() -> None:
    """Wait until sockets that were just closed are really closed: asyncio does this some steps later."""
    for _ in range(10):
        await asyncio.sleep(0)


def require_parent(process: int) -> None:
    """Raise `DeviceReleased` in a forked child of `process`, where a call would wait for a thread of the parent."""
    if os.getpid() != process:
        raise DeviceReleased("a forked child cannot use a device: the connection is the parent's, so use it there")


class LoopNeeded(RuntimeError):
    """A coroutine waits for something, so it needs an event loop."""


def run_here(coroutine: Coroutine[object, None, _Result]) -> _Result:
    """
    Run a coroutine that never waits in this thread, without an event loop.

    Raises:
        LoopNeeded: The coroutine waits for something.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: _Result = done.value
        return result
    coroutine.close()
    raise LoopNeeded("Jumpstarter's driver client waits for something, and there is no event loop here")

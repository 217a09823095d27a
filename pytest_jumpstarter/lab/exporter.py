"""
One exporter process: `python -m pytest_jumpstarter.lab.exporter NAME`.

Only the lab starts it. Its input are two lines of JSON: first the driver classes, so that they load while the lab
starts, and the lab's temporary folder; then the path of the exporter's config. Standard input stays open as long as the
lab lives: at its end the lab is dead, and the exporter stops and cleans up. The last line of its output is the error.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pytest_jumpstarter.lab.temporary import remove_temporary

STOP_TIMEOUT = 3.0


class DriverUnusable(Exception):
    """A driver class cannot be imported; the message names the package to install, if that is known."""


def main() -> int:
    """Run one exporter until it is stopped, or the lab is dead."""
    logging.getLogger().setLevel(logging.INFO)  # as `jmp run` does; otherwise the log stream lacks the output of hooks
    try:
        order = json.loads(sys.stdin.readline())
        import_drivers(order["drivers"])
        from jumpstarter.config.exporter import ExporterConfigV1Alpha1

        config = ExporterConfigV1Alpha1.load_path(Path(json.loads(sys.stdin.readline())))
        return asyncio.run(_serve(config, Path(order["temporary"])))
    except DriverUnusable as error:
        print(error, flush=True)
    except Exception as error:  # a driver may raise anything; the user needs its message
        for cause in _causes(error):
            print(_words(cause), flush=True)
    return 1


def import_drivers(types: Iterable[str]) -> None:
    """
    Import driver classes, so that the error for a missing one names it.

    Raises:
        DriverUnusable: A class cannot be imported.
    """
    import jumpstarter.exporter  # noqa: F401  (takes most of the time that an exporter needs to start)

    for type_ in types:
        module, _, name = type_.rpartition(".")
        try:
            getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise DriverUnusable(_missing(type_, error.name or module)) from error
        except AttributeError as error:
            raise DriverUnusable(f"driver {type_}: module {module} has no {name}") from error
        except Exception as error:
            raise DriverUnusable(f"driver {type_}: importing {module} raises {_words(error)}") from error


def _missing(type_: str, module: str) -> str:
    """Return the error for a missing module, with its package: Jumpstarter's driver modules are named after it."""
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is not None:
        return f"driver {type_}: there is no module {module}"
    package = top.replace("_", "-") if top.startswith("jumpstarter_driver_") else top
    return f"driver {type_}: module {top} is not installed; pip install {package}"


async def _serve(config: Any, temporary: Path) -> int:
    loop = asyncio.get_running_loop()
    async with config.create_exporter() as exporter:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: exporter.stop(should_unregister=True))
        watch = _LabWatch(lambda: loop.call_soon_threadsafe(exporter.stop), temporary)
        watch.start()
        await exporter.serve()
    if watch.is_orphaned:
        _clear_up(temporary)
    return int(exporter.exit_code or 0)


class _LabWatch(threading.Thread):
    """Waits in a thread for the death of the lab: a driver that blocks the event loop must not outlive it either."""

    def __init__(self, on_death: Callable[[], object], temporary: Path) -> None:
        super().__init__(daemon=True)
        self.is_orphaned = False
        self._on_death = on_death
        self._temporary = temporary

    def run(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass  # the lab sends nothing after the two lines
        self.is_orphaned = True
        self._on_death()
        time.sleep(STOP_TIMEOUT)
        _clear_up(self._temporary)


def _clear_up(temporary: Path) -> None:
    """
    Clean up in place of the dead lab: remove its files, and kill the processes that drivers and hooks have started.

    This process too: the lab made it the leader of a process group of its own.
    """
    remove_temporary(temporary)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside nested exception groups, which task groups raise."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())

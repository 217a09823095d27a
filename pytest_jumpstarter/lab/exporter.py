"""
One exporter process: `python -m pytest_jumpstarter.lab.exporter NAME`.

Started by the lab, and by nobody else. What it needs comes on standard input, a line of JSON each: first the driver
classes (so that they load while the lab gets ready) and the lab's temporary folder, then the path of the exporter's
config. Standard input then stays open as long as the lab lives: when it ends the lab is dead, and the exporter
stops and clears up. What goes wrong is said in the last line of output.
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
    """Say which driver class cannot be imported, and which package has it."""


def main() -> int:
    """Run one exporter until it is told to stop, or the lab is gone."""
    logging.getLogger().setLevel(logging.INFO)  # as `jmp run` does: else the log stream carries no hook's output
    try:
        order = json.loads(sys.stdin.readline())
        import_drivers(order["drivers"])
        from jumpstarter.config.exporter import ExporterConfigV1Alpha1

        config = ExporterConfigV1Alpha1.load_path(Path(json.loads(sys.stdin.readline())))
        return asyncio.run(_serve(config, Path(order["temporary"])))
    except DriverUnusable as error:
        print(error, flush=True)
    except Exception as error:  # a driver may raise anything; its own words are what the user needs
        for cause in _causes(error):
            print(_words(cause), flush=True)
    return 1


def import_drivers(types: Iterable[str]) -> None:
    """
    Import driver classes, so that a missing one is known by name.

    Raises:
        DriverUnusable: One cannot be imported.
    """
    import jumpstarter.exporter  # noqa: F401  (most of the time until an exporter serves goes into this import)

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
    """Name the package that has `module`: Jumpstarter's drivers are called after their package."""
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
    """Waits for the death of the lab, in a thread: a driver may block the event loop, and must not outlive the lab."""

    def __init__(self, on_death: Callable[[], object], temporary: Path) -> None:
        super().__init__(daemon=True)
        self.is_orphaned = False
        self._on_death = on_death
        self._temporary = temporary

    def run(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass  # the lab has no more to say than it said at the start
        self.is_orphaned = True
        self._on_death()
        time.sleep(STOP_TIMEOUT)
        _clear_up(self._temporary)


def _clear_up(temporary: Path) -> None:
    """
    Do what the dead lab would have done: take its files away, and end all that drivers and hooks have started.

    That includes this process: the lab made it the leader of a group of its own.
    """
    remove_temporary(temporary)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside nested groups, which task groups make of one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())

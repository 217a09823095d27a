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
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pytest_jumpstarter.host.grpc_threads import read_where_waiting
from pytest_jumpstarter.lab.driver_errors import explain, named, words
from pytest_jumpstarter.lab.power_drivers import POWER_DRIVERS
from pytest_jumpstarter.lab.temporary import remove_temporary

STOP_TIMEOUT = 3.0

_DRIVERS = "jumpstarter_driver_"
_SIMILAR = 0.8  # of two names; below it, real drivers such as tftp and http are similar


class DriverUnusable(Exception):
    """A driver class cannot be imported; the message names the package to install, if that is known."""


def main() -> int:
    """Run one exporter until it is stopped, or the lab is dead."""
    logging.getLogger().setLevel(logging.INFO)  # as `jmp run` does; otherwise the log stream lacks the output of hooks
    try:
        order = json.loads(sys.stdin.readline())
        with read_where_waiting():
            import grpc.aio  # noqa: F401
        import_drivers(order["drivers"])
        from pytest_jumpstarter.jumpstarter_private import ExporterConfigV1Alpha1

        config = ExporterConfigV1Alpha1.load_path(Path(json.loads(sys.stdin.readline())))
    except DriverUnusable as error:
        print(error, flush=True)
        return 1
    except Exception as error:
        print(words(error), flush=True)
        return 1
    try:
        return asyncio.run(_serve(config, Path(order["temporary"])))
    except Exception as error:  # a driver may raise anything; the user needs its message
        for cause in _causes(error):
            print(explain(cause, config.export), flush=True)
    return 1


def import_drivers(drivers: Mapping[str, str]) -> None:
    """
    Import driver classes, so that the error for a missing one names it.

    Args:
        drivers: The class paths of the drivers by their dotted paths.

    Raises:
        DriverUnusable: A class cannot be imported.
    """
    from jumpstarter.exporter import Exporter  # noqa: F401  (takes most of the time that an exporter needs to start)

    for path, type_ in drivers.items():
        module, _, name = type_.rpartition(".")
        try:
            getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise DriverUnusable(f"{named(path, type_)}: {_missing(error.name or module)}") from error
        except AttributeError as error:
            has_no = f"module {module} has no {name}{_similar(module, name)}"
            raise DriverUnusable(f"{named(path, type_)}: {has_no}") from error
        except Exception as error:
            raise DriverUnusable(f"{named(path, type_)}: importing {module} raises {words(error)}") from error


def _missing(module: str) -> str:
    """Return the error for a missing module, with its package: Jumpstarter's driver modules are named after it."""
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is not None:
        return f"there is no module {module}"
    said = f"module {top} is not installed"
    if not top.startswith(_DRIVERS):
        return f"{said}; pip install {top}"
    meant = _similar_driver(top)
    if meant is None:
        return f"{said}; pip install {_package(top)}"
    is_installed = importlib.util.find_spec(meant) is not None
    return f"{said}; did you mean {meant}?{'' if is_installed else f' pip install {_package(meant)}'}"


def _similar_driver(module: str) -> str | None:
    """Return the module that a name is probably a misspelling of: nobody should install what has the wrong name."""
    known = {each.name for each in pkgutil.iter_modules() if each.name.startswith(_DRIVERS)}
    known |= {driver.type.partition(".")[0] for driver in POWER_DRIVERS.values() if driver.type}
    if module in known:
        return None
    names = [each.removeprefix(_DRIVERS) for each in sorted(known)]
    near = get_close_matches(module.removeprefix(_DRIVERS), names, n=1, cutoff=_SIMILAR)
    return _DRIVERS + near[0] if near else None


def _package(module: str) -> str:
    return module.replace("_", "-")


def _similar(module: str, name: str) -> str:
    """Return the class of a module that is probably meant."""
    near = get_close_matches(name, [each for each in vars(sys.modules.get(module, sys)) if each[0].isupper()], n=1)
    return f"; did you mean {near[0]}?" if near else ""


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


if __name__ == "__main__":
    sys.exit(main())

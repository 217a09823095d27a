"""
`python -m pytest_jumpstarter.lab FILE…`: run a lab for a bench or for several test runs.

With `--init` it writes a lab file (bench.py), with `--check` it tries one (bench_check.py).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.process import Options, install_stop, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the lab until a signal comes; return the exit code: 0, or 2 with one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for flag, module in (("--init", "bench"), ("--check", "bench_check")):  # `--init` has a `--check` of its own
        if flag in given:
            given.remove(flag)
            code: int = import_module(f"pytest_jumpstarter.lab.{module}").main(given)
            return code
    options = _parser().parse_args(given)
    lifeline = socket.socket(fileno=options.lifeline) if options.lifeline is not None else None
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_main(options, lifeline))
    except LabError as error:
        text = " ".join(str(error).split())
        print(f"lab: {text}", file=sys.stderr, flush=True)
        _tell(lifeline, f"error {text}")
        return 2
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's loop if that is installed: the router needs a quarter less CPU time for a frame."""
    if find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


async def _main(options: argparse.Namespace, lifeline: socket.socket | None) -> None:
    is_over = asyncio.Event()
    install_stop(is_over, options.lifeline)
    await serve(
        Options(
            paths=options.paths,
            config_dir=options.config_dir,
            temporary=options.temporary,
            clients=options.client,
            assign_delay=options.assign_delay,
            offline_after=options.offline_after,
            token_lifetime=options.token_lifetime,
            start_timeout=options.start_timeout,
            faults=options.faults,
            snapshot=options.snapshot,
        ),
        on_ready=lambda endpoint: _tell(lifeline, f"ready {endpoint}"),
        is_over=is_over,
    )


def _tell(lifeline: socket.socket | None, line: str) -> None:
    if lifeline is not None:
        try:
            lifeline.sendall(line.encode() + b"\n")
        except OSError:
            return  # the process that started the lab is gone


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_jumpstarter.lab",
        description="Run Jumpstarter exporters with a lab controller of their own, on this machine only",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE-OR-FOLDER", help="Exporter configs with metadata.labels")
    parser.add_argument(
        "--config-dir", type=Path, metavar="DIR", help="Folder for the configs, usable as JMP_CLIENT_CONFIG_HOME"
    )
    parser.add_argument(
        "--client", action="append", default=[], metavar="NAME", help="Another client besides 'default' (repeatable)"
    )
    parser.add_argument(
        "--assign-delay", type=_duration, default=0.0, metavar="DURATION", help="Delay each new lease by this time"
    )
    parser.add_argument(
        "--offline-after",
        type=_duration,
        default=60.0,
        metavar="DURATION",
        help="Time without a sign of life after which an exporter is offline",
    )
    parser.add_argument(
        "--token-lifetime",
        type=_duration,
        default=365 * 86400.0,
        metavar="DURATION",
        help="Lifetime of the clients' tokens",
    )
    parser.add_argument(
        "--start-timeout", type=_duration, default=60.0, metavar="DURATION", help="Longest wait for the exporters"
    )
    parser.add_argument(
        "--init",
        action="store_true",
        help="Run no lab, but write a lab file for a board on this machine (--init --help)",
    )
    parser.add_argument(
        "--check", action="store_true", help="Run no lab, but open the ports of a lab file, and switch the power once"
    )
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--temporary", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--faults", type=Path, help=argparse.SUPPRESS)  # see faults.py
    parser.add_argument("--snapshot", help=argparse.SUPPRESS)  # see faults.py
    return parser


if __name__ == "__main__":
    sys.exit(main())

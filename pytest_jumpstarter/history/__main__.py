"""`python -m pytest_jumpstarter.history COMMAND FILE…`: look at what runs learned, and keep its files in order."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import HistoryError
from pytest_jumpstarter.history.board_health import health
from pytest_jumpstarter.history.export import write_csv, write_json
from pytest_jumpstarter.history.file import HistoryFile
from pytest_jumpstarter.history.store import History, files_of, is_folder
from pytest_jumpstarter.history.verdicts import verdicts

_KEPT = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; return the exit code: 0, or 2 with one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        problems = options.act(options)
    except HistoryError as exc:
        problems = [str(exc)]
    except BrokenPipeError:  # such as `… | head`
        sys.stderr.close()
        return 0
    for problem in problems:
        print(f"history: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pytest_jumpstarter.history", description=_about())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    paths = argparse.ArgumentParser(add_help=False)
    paths.add_argument("paths", metavar="FILE", nargs="+", type=Path, help="a history file, or a folder of them")
    each = commands.add_parser("list", parents=[paths], help="list the runs, the oldest first")
    each.set_defaults(act=_list)
    each = commands.add_parser("show", parents=[paths], help="show what failures follow, and the health of boards")
    each.add_argument("--test", metavar="TEXT", default="", help="only tests with this text in their names")
    each.add_argument("--board", metavar="NAME", default="", help="only this board")
    each.set_defaults(act=_show)
    each = commands.add_parser("export", parents=[paths], help="write all results to standard output")
    each.add_argument("--format", choices=("csv", "json"), default="csv", help="CSV, or one JSON object a line")
    each.set_defaults(act=_export)
    each = commands.add_parser("merge", parents=[paths], help="add the runs of files and folders to one file")
    each.add_argument("--into", metavar="FILE", type=Path, required=True, help="the file that gets the runs")
    each.set_defaults(act=_merge)
    each = commands.add_parser("prune", parents=[paths], help="remove the oldest runs")
    each.add_argument("--keep", metavar="N", type=int, default=_KEPT, help=f"runs to keep (default: {_KEPT})")
    each.set_defaults(act=_prune)
    return parser


def _about() -> str:
    return (__doc__ or "").partition(": ")[2]


def _list(options: argparse.Namespace) -> list[str]:
    history = History(*options.paths)
    for run in history.full_runs():
        counts = Counter(result.outcome or "none" for result in run.results)
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "no results"
        moment = datetime.fromtimestamp(run.start).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        origin = " ".join(each for each in (run.commit[:10], run.build, run.job) if each)
        print(f"{moment}  {origin or 'unknown commit'}  {words}")
    return history.problems


def _show(options: argparse.Namespace) -> list[str]:
    history = History(*options.paths)
    everything = history.past()
    past = {key: each for key, each in everything.items() if options.test in key[0]}
    if options.board:
        past = {key: each for key, each in past.items() if any(result.board == options.board for result in each)}
    found = verdicts(past, tests=len(everything))
    shown = [each for each in found if options.board in ("", each.board)]
    for verdict in shown:
        print(f"{verdict.test} {verdict.words}")
    if not shown:
        print(f"no verdict: nothing is clear enough in {_results(sum(map(len, past.values())))} of {len(past)} tests")
    if not options.test:
        for board in health(history.leases()):
            if options.board in ("", board.exporter):
                ready = (
                    "never ready" if board.ready_seconds is None else f"ready in {format_duration(board.ready_seconds)}"
                )
                state = "unhealthy" if board.is_unhealthy else "healthy"
                print(
                    f"{board.exporter}: {state}, {board.device_errors} of {board.leases} leases with a device error "
                    f"({board.errors_per_100:g} per 100), {ready}, {board.slow_boots} slow boots"
                )
    return history.problems


def _results(count: int) -> str:
    return f"{count} result{'s' if count != 1 else ''}"


def _export(options: argparse.Namespace) -> list[str]:
    history = History(*options.paths)
    write = write_csv if options.format == "csv" else write_json
    write(history.full_runs(), sys.stdout)
    return history.problems


def _merge(options: argparse.Namespace) -> list[str]:
    history = History(*options.paths)
    if is_folder(options.into):
        raise HistoryError(f"{options.into}: give --into a file, such as {options.into / 'history.db'}")
    if os.path.realpath(options.into) in {os.path.realpath(each) for path in options.paths for each in files_of(path)}:
        raise HistoryError(f"{options.into}: it is also one of the files to merge")
    count = HistoryFile(options.into).write(history.full_runs())
    print(f"{count} run{'s' if count != 1 else ''} added to {options.into}")
    return history.problems


def _prune(options: argparse.Namespace) -> list[str]:
    if options.keep < 0:
        raise HistoryError(f"--keep {options.keep}: it must not be negative")
    problems = []
    for path in options.paths:
        if is_folder(path):
            count, unreadable = _prune_folder(path, options.keep)
            problems += unreadable
        else:
            count = HistoryFile(path).prune(keep=options.keep)
        print(f"{count} run{'s' if count != 1 else ''} removed from {path}")
    return problems


def _prune_folder(folder: Path, keep: int) -> tuple[int, list[str]]:
    """Remove the files of a folder with the oldest runs; return how many these are, and what could not be read."""
    history = History(folder)
    old = {run.uuid for run in history.runs()[: -keep or None]}
    count = 0
    for path in files_of(folder):
        try:
            uuids = {run.uuid for run in HistoryFile(path).runs()}
        except HistoryError:
            continue
        if uuids and uuids <= old:
            path.unlink()
            count += len(uuids)
    return count, history.problems


if __name__ == "__main__":
    sys.exit(main())

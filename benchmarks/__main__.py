"""
Measure everything, ours beside Jumpstarter's own client, and print one table.

    python -m benchmarks [--quick] [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import suites, table
from benchmarks.bench import WRITE_SECONDS, Bench, document, write_image
from benchmarks.processes import MeasuringProcess, served_drivers

BOARD = "bench"
IDLE = 1.0
"""Seconds after which an exporter has done with its last lease: it is available 0.2 s earlier."""

IMPORT_HYPOTHESIS = """\
import gc, time, pytest
gc.collect()
start = time.perf_counter()
import _hypothesis_pytestplugin
print("SPENT", (time.perf_counter() - start) * 1000)
"""
"""Measures the import of a plugin that many suites have installed and few of their tests use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int
    turns: int = 3
    class_runs: int = 3
    classes: int = 20
    image_mib: int = 256
    calls: int = 500
    blocks: int = 1000


QUICK = Size(rounds=1, turns=1, class_runs=1, classes=2, image_mib=8, calls=20, blocks=20)


@dataclass(slots=True)
class Figures:
    """What was measured: by name, then by side; and the moments of cold runs."""

    by_name: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    stages: list[dict[str, float]] = field(default_factory=list)

    def add(self, side: str, **figures: float) -> None:
        """Add figures of one side."""
        for name, figure in figures.items():
            self.by_name[name][side].append(figure)


class SideProcess(MeasuringProcess):
    """The process of one side, which waits between its leases."""

    def __init__(self, name: str, place: str, image: Path, size: Size, bench: Bench) -> None:
        self._bench = bench
        command = [sys.executable, "-m", "benchmarks.side", name, place, BOARD, str(image)]
        command += [f"--calls={size.calls}", f"--blocks={size.blocks}", f"--started={time.monotonic()}"]
        super().__init__(name, command)

    def figures(self, order: str = "", *, after: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return what comes of an order, once the board is free again."""
        found = super().figures(order, after=after)
        self._bench.wait_until_free()
        return found


@contextmanager
def leasing(image: Path, size: Size, bench: Bench) -> Iterator[list[MeasuringProcess]]:
    """Start the processes of both sides that lease."""
    with ExitStack() as stack:
        sides = (SideProcess(name, str(bench.config), image, size, bench) for name in ("ours", "theirs"))
        yield [stack.enter_context(process) for process in sides]


def measure_sides(bench: Bench, folder: Path, size: Size, figures: Figures) -> None:
    """
    Measure what a process does that leases, calls, flashes and echoes, turn and turn about.

    What is short is measured several times a round, so that a machine which is slow for a while is so for all sides.
    """
    image = write_image(folder / "image", size.image_mib)
    with served_drivers(bench.config_dir / "exporters" / f"{BOARD}.yaml") as (socket, address):
        for _ in range(size.rounds):
            with leasing(image, size, bench) as processes:
                for process in processes:
                    figures.add(process.name, cold=process.figures()["cold"])
                for turn in range(size.turns):
                    for process in processes:
                        order = "all" if turn == size.turns - 1 else "calls"
                        found = process.figures(order)
                        figures.add(process.name, free=found.pop("first"), **found)
                        with bench.held(BOARD) as hand_over:
                            figures.add(process.name, handed=process.figures("first", after=hand_over)["first"])
                        time.sleep(IDLE)
                        figures.add(process.name, idle=process.figures("first")["first"])
            measure_without_lab(bench, (socket, address), image, size, figures)


def measure_with_database(bench: Bench, folder: Path, size: Size, figures: Figures) -> None:
    """Measure the first call on an idle board, in a lab whose writes take as long as those of a real one."""
    image = write_image(folder / "small", 1)
    for _ in range(size.rounds):
        with leasing(image, size, bench) as processes:
            for process in processes:
                process.figures()
            for _ in range(size.turns):
                for process in processes:
                    time.sleep(IDLE)
                    figures.add(process.name, database=process.figures("first")["first"])


def measure_without_lab(bench: Bench, places: tuple[str, str], image: Path, size: Size, figures: Figures) -> None:
    """Measure the same without a lab: in a shell, and directly; Jumpstarter's client on a socket is the limit."""
    with ExitStack() as stack:
        processes = [
            (how, name, stack.enter_context(SideProcess(f"{name} {how}", place, image, size, bench)))
            for how, place in zip(("in a shell", "directly"), places, strict=True)
            for name in ("ours", "theirs")
        ]
        for _, _, process in processes:
            process.figures()
        for _ in range(size.turns):
            for how, name, process in processes:
                figures.add(name, **{f"call {how}": process.figures("calls")["call"]})
        limit = next(process for how, name, process in processes if (how, name) == ("in a shell", "theirs"))
        found = limit.figures("all")
        figures.add("direct", flash=found["flash"], echo=found["echo"])


def measure_ends(bench: Bench, folder: Path, size: Size, figures: Figures) -> None:
    """Measure from the end of the last test until the process is gone and its lease released."""
    pair = suites.Pair(folder, BOARD)
    for _ in range(size.rounds):
        for name in ("ours", "theirs"):
            taken, moments = pair.run(name, bench.config_dir)
            figures.add(name, end=taken - moments["test ends"])
            bench.wait_until_free()


def measure_classes(bench: Bench, folder: Path, size: Size, figures: Figures) -> None:
    """Measure suites of classes; the runs of one side at once, each on its own board: they mostly wait."""
    pairs = [suites.Pair(folder, class_board(number), classes=size.classes) for number in range(size.class_runs)]
    for name in ("ours", "theirs"):
        with ThreadPoolExecutor(len(pairs)) as pool:
            for future in [pool.submit(pair.run, name, bench.config_dir) for pair in pairs]:
                figures.add(name, classes=future.result()[0])
        bench.wait_until_free()


def measure_starts(folder: Path, size: Size, figures: Figures) -> None:
    """Measure what needs no lab that runs already: a suite without devices, and one with a lab of its own."""
    lab_file = folder / "cold.yaml"
    lab_file.write_text(document(BOARD))
    unused = folder / "unused"
    unused.mkdir()
    (unused / "test_it.py").write_text("def test_nothing():\n    pass\n")
    script = Path(__file__).with_name("unused.py")
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for _ in range(size.rounds):
        for name, command in (
            ("ours", [sys.executable, str(script), "-s", str(unused)]),
            ("hypothesis", [sys.executable, "-c", IMPORT_HYPOTHESIS]),
        ):
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ).stdout
            figures.add(name, unused=float(output.partition("SPENT ")[2]))
        moments = suites.cold_lab(folder, lab_file)
        figures.stages.append(moments)
        figures.add("ours", body=moments["first test body"])


def class_board(number: int) -> str:
    """Return the board of one run of classes."""
    return f"classes-{number}"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="One small round of everything: does it still work?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="Where to write all figures")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users' processes find byte code too; the first round writes it
    size, figures = QUICK if args.quick else Size(rounds=args.rounds), Figures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        measure_starts(folder, size, figures)
        boards = [BOARD, *map(class_board, range(size.class_runs))]
        bench = stack.enter_context(Bench.open(folder, "---\n".join(map(document, boards))))
        measure_sides(bench, folder, size, figures)
        measure_ends(bench, folder, size, figures)
        measure_classes(bench, folder, size, figures)
        slow = stack.enter_context(Bench.open(folder, document(BOARD), write_seconds=WRITE_SECONDS))
        measure_with_database(slow, folder, size, figures)
    print("\n".join([*table.lines(figures.by_name), "", *table.stage_lines(figures.stages)]))
    if args.json is not None:
        args.json.write_text(json.dumps(table.summary(figures.by_name) | {"stages": figures.stages}, indent=2))


if __name__ == "__main__":
    main()

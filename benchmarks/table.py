"""Medians, spreads and ratios, as a table for people and as JSON for machines."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Mapping[str, Sequence[float]]]
"""What was measured: by name, then by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One line of the table.

    Attributes:
        what: Words for it.
        name: Its name among the figures.
        unit: Of the figures.
        must: What must be reached: a ratio, or a figure of ours where there is nothing to compare it with.
        aim: What should be.
        against: The side that ours is compared with; None compares with nobody.
        is_rate: Whether more is better.
    """

    what: str
    name: str
    unit: str
    must: float | None
    aim: float | None
    against: str | None = "theirs"
    is_rate: bool = False

    def result(self, figures: Figures) -> float:
        """Return the ratio of the medians, or the median."""
        sides = figures[self.name]
        ours = statistics.median(sides["ours"])
        return ours / statistics.median(sides[self.against]) if self.against else ours

    def verdict(self, figures: Figures) -> str:
        """Tell how far it went."""
        result = self.result(figures)
        for word, goal in (("aim", self.aim), ("must", self.must)):
            if goal is not None and (result >= goal if self.is_rate else result <= goal):
                return word
        return "" if self.must is None else "short"


ROWS = (
    Row(what="Idle board: request to first driver call, clients imported", name="idle", unit="s", must=None, aim=None),
    Row(
        what="The same where a lab's write takes 30 ms, as on Kubernetes",
        name="database",
        unit="s",
        must=0.33,
        aim=0.25,
    ),
    Row(what="Board just given back: the same", name="free", unit="s", must=None, aim=None),
    Row(what="Board handed over: the same", name="handed", unit="s", must=0.25, aim=0.2),
    Row(what="Board just given back, cold process", name="cold", unit="s", must=0.5, aim=0.4),
    Row(what="Last test ends to released and exited", name="end", unit="s", must=0.25, aim=0.1),
    Row(what="Test classes: a session's lease, a lease each", name="classes", unit="s", must=None, aim=None),
    Row(what="Driver call, round trip, in the lab", name="call", unit="ms", must=0.85, aim=0.75),
    Row(what="Driver call in a shell", name="call in a shell", unit="ms", must=0.85, aim=0.75),
    Row(what="Driver call with --jmp-direct", name="call directly", unit="ms", must=0.85, aim=0.75),
    Row(what="Flash", name="flash", unit="MB/s", must=1.5, aim=1.8, is_rate=True),
    Row(
        what="Flash, beside a direct unix socket",
        name="flash",
        unit="MB/s",
        must=0.7,
        aim=0.8,
        against="direct",
        is_rate=True,
    ),
    Row(what="Stream echo, 64 KiB blocks", name="echo", unit="MB/s", must=1.3, aim=1.5, is_rate=True),
    Row(what="CPU seconds of the test process for the flash", name="flash_cpu", unit="s", must=0.7, aim=0.6),
    Row(what="Peak memory of the test process after it", name="flash_memory", unit="MiB", must=0.95, aim=0.85),
    Row(
        what="Start-up in a suite without devices, beside the import of hypothesis' plugin",
        name="unused",
        unit="ms",
        must=0.8,
        aim=None,
        against="hypothesis",
    ),
    Row(what="Cold `pytest --jmp-lab` to first test body", name="body", unit="s", must=1.2, aim=0.8, against=None),
)


def lines(figures: Figures) -> Iterator[str]:
    """Yield the table, line by line."""
    yield "| what | ours | other side | ratio | must | aim | reached |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in ROWS:
        sides = figures[row.name]
        other = f"{_spread(sides[row.against], row.unit)} ({row.against})" if row.against else ""
        times = " x" if row.against else ""
        ratio = f"{row.result(figures):.3g}{times}" if row.against else ""
        goals = ["" if goal is None else f"{goal:g}{times}" for goal in (row.must, row.aim)]
        cells = [row.what, _spread(sides["ours"], row.unit), other, ratio, *goals, row.verdict(figures)]
        yield f"| {' | '.join(cells)} |"


def stage_lines(stages: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield where the time of a cold run goes: the median seconds between two moments."""
    before = 0.0
    yield "| cold run: until | seconds | of these, since the line above |"
    yield "| --- | --- | --- |"
    for name in stages[0]:
        at = statistics.median(run[name] for run in stages)
        yield f"| {name} | {at:.2f} | {at - before:.2f} |"
        before = at


def summary(figures: Figures) -> dict[str, Any]:
    """Return all figures, and the result of each row."""
    results = [{"what": row.what, "result": row.result(figures), "reached": row.verdict(figures)} for row in ROWS]
    return {"rows": results, "figures": figures}


def _spread(values: Sequence[float], unit: str) -> str:
    return f"{statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g})"

"""Checks of a run after a failure of the lab."""

from __future__ import annotations

from .inner_run import Run
from .shared_lab import Bench

GONE = "jmp delete leases"
"""Words in the summary that mean that a lease may still be active."""

NEVER = ("jmp login", "INTERNALERROR", "Traceback", "CancelledError")
"""Useless advice, and signs of a crash of this package."""


def check_unnoticed(run: Run, bench: Bench) -> None:
    """Check that the failure changed nothing: all tests passed, and nothing is leased any more."""
    assert run.code == 0, run.output
    assert run.count("passed") > 0, run.output
    assert "DEVICE ERROR" not in run.output, run.output
    check_clean(run, bench)


def check_lab_blamed(run: Run, bench: Bench, *, codes: tuple[int, ...] = (8,)) -> None:
    """Check that there is no test failure and no configuration error, and that nothing is leased any more."""
    assert run.code in codes, run.output
    assert (run.count("failed"), run.count("error")) == (0, 0), run.output
    check_clean(run, bench)


def check_clean(run: Run, bench: Bench) -> None:
    """Check that nothing is leased any more, that this package did not crash, and that no useless advice is given."""
    assert bench.leases() == [], run.output
    for words in (*NEVER, GONE):
        assert words not in run.output, run.output

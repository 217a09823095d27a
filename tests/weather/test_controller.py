"""
A lab controller that starts refuses all requests for some seconds: its authenticator is not initialized.

If only clients see this, it changes nothing. Exporters that see it lose their leases, and so does the running test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from . import moments
from .checks import check_clean, check_lab_blamed, check_unnoticed
from .moments import Moment, through
from .shared_lab import FULL, HOOK, PLAIN, Bench, SharedLab

SECONDS = 12
MOMENTS: dict[str, Moment] = {
    "before": moments.before,
    "requesting": moments.requesting,
    "queue": moments.queueing,
    "pending": moments.pending,
    "hook": moments.hook,
    "calls": moments.calls,
    "release": moments.release,
    "handing over": moments.handing_over,
    "two workers": moments.two_workers,
}
IN_CI = ("hook", "calls", "two workers")


def needs(moment: str) -> tuple[int, str]:
    """Return the number of boards that a moment needs, and their kind."""
    return (2 if moment == "two workers" else 1), (HOOK if moment == "hook" else PLAIN)


@contextmanager
def start(bench: Bench, *, exporters: float = 0.0) -> Iterator[None]:
    """Let the lab controller restart, for this client, and for its exporters for that many seconds."""
    bench.order(f"start for {SECONDS}s")
    if exporters:
        bench.order(f"start for {exporters:g}s", exporters=True)
    yield
    bench.until_answered()


@pytest.mark.parametrize("moment", MOMENTS)
def test_start_met_by_clients(shared_lab: SharedLab, moment: str) -> None:
    """If exporters do not see it, a restart of the lab controller changes nothing, at any moment."""
    boards, kind = needs(moment)
    with shared_lab.bench(boards, kind=kind) as bench:
        run = through(MOMENTS[moment](bench), partial(start, bench))
        check_unnoticed(run, bench)


def test_start_while_a_worker_is_replaced(shared_lab: SharedLab) -> None:
    """The lease of a worker that died is released, and the next worker gets one, when the lab controller answers."""
    with shared_lab.bench() as bench:
        run = through(moments.lost_worker(bench), partial(start, bench))
        assert run.code == 1, run.output
        assert (run.count("failed"), run.count("passed")) == (1, 2), run.output
        check_clean(run, bench)


@pytest.mark.parametrize("moment", MOMENTS if FULL else IN_CI)
def test_start_met_by_exporters(shared_lab: SharedLab, moment: str) -> None:
    """If exporters lose their leases, tests are retried when they are back."""
    boards, kind = needs(moment)
    with shared_lab.bench(boards, kind=kind) as bench:
        before = bench.exporter_processes()
        run = through(
            MOMENTS[moment](bench, "--jmp-retries=2", "--jmp-scope=function"), partial(start, bench, exporters=6)
        )
        check_lab_blamed(run, bench, codes=(0,))
        bench.until_others_serve(before)
        assert moment != "calls" or run.count("rerun"), run.output


@pytest.mark.parametrize("moment", ["hook", "calls"] if FULL else ["calls"])
def test_start_met_by_exporters_without_retries(shared_lab: SharedLab, moment: str) -> None:
    """Without retries, the running test is a device error; a test with a new fixture passes."""
    boards, kind = needs(moment)
    with shared_lab.bench(boards, kind=kind) as bench:
        run = through(MOMENTS[moment](bench, "--jmp-scope=function"), partial(start, bench, exporters=6))
        check_lab_blamed(run, bench, codes=(0, 8))
        assert run.count("device error") <= 1, run.output
        assert moment == "hook" or run.count("passed") >= 1, run.output


_TWO = """
def test_first(dut):
    dut.counter.call("count", "first", 0)

def test_second(dut):
    dut.counter.call("count", "second", 0)
"""
_BETWEEN = """
def pytest_runtest_logfinish(nodeid):
    if "test_first" in nodeid:
        step("BETWEEN")
"""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jmp-scope=function",), "2 passed in"),
        (("--jmp-retries=1",), "2 passed, 1 rerun in"),
        ((), "1 passed, 1 device error in"),  # the fixture of the session keeps its board
    ],
    ids=["new fixture", "retry", "session"],
)
def test_exporter_is_another_before_the_next_test(shared_lab: SharedLab, options: tuple[str, ...], words: str) -> None:
    """An exporter that was started again between two tests is noticed before the second begins."""
    with shared_lab.bench() as bench:
        bench.suite(_TWO, conftest=_BETWEEN)
        with bench.run(*options) as run:
            run.until_at("BETWEEN")
            before = bench.exporter_processes()
            bench.order("start for 6s", exporters=True)
            bench.until_others_serve(before)
            run.go("BETWEEN")
            run.end()
        assert words in run.output, run.output
        assert ("test_second (setup)" in run.output) == (not options), run.output
        check_lab_blamed(run, bench, codes=(0,) if options else (8,))

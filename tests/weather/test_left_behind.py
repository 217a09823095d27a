"""
A requested lease is always released, whatever fails before it can be used, and also after an interrupt.

If it cannot be released, the summary says so, with the command that does it.
"""

from __future__ import annotations

import itertools
import re

import pytest

from . import moments
from .checks import GONE, check_unnoticed
from .inner_run import Run
from .shared_lab import FULL, Bench, SharedLab

STEPS = ("CreateLease", "GetLease", "UpdateLease", "GetExporter", "Dial")
"""The requests of a run until it has a board, in this order."""

TROUBLES = {
    "start": "fail {method} UNKNOWN 'oidc: authenticator not initialized'",
    "unknown": "fail {method} UNKNOWN 'the bus is late'",
    "refused": "fail {method} PERMISSION_DENIED 'permission denied'",
    "silent": "silence {method}",
}
TTL = 6.0
OPTIONS = (f"--jmp-ttl={TTL:g}s", "--jmp-wait=10s")


def turns() -> list[tuple[str, str]]:
    """Return each request with each failure, in CI in turns."""
    if FULL:
        return list(itertools.product(STEPS, TROUBLES))
    return list(zip(STEPS, itertools.cycle(TROUBLES), strict=False))


def check_nothing_left(bench: Bench, run: Run) -> None:
    """Check that the lease of a run has ended, and that the run knows that."""
    assert bench.leases() == [], run.output
    assert GONE not in run.output, run.output
    assert "INTERNALERROR" not in run.output, run.output


@pytest.mark.parametrize(("method", "trouble"), turns())
def test_trouble_on_the_way(shared_lab: SharedLab, method: str, trouble: str) -> None:
    """If one request never succeeds, the run gives up and releases its lease."""
    with shared_lab.bench() as bench:
        bench.order(TROUBLES[trouble].format(method=method))
        bench.suite(moments.ONE)
        with bench.run(*OPTIONS) as run:
            run.end()
        assert run.code in ((0, 8) if method == "UpdateLease" else (1, 8)), run.output
        check_nothing_left(bench, run)


HOLDS = """
def test_it(dut):
    while not is_over():
        dut.counter.call("count", "it", 0.2)
"""


def interrupt_in(bench: Bench, method: str, times: int, *options: str) -> None:
    """Send Ctrl-C to a run that has called a method so many times, and check that nothing is left."""
    bench.suite(HOLDS)  # a run extends its lease for as long as it has its board
    before = bench.called(method)
    with bench.run(*options) as run:
        bench.until_called(method, times, since=before)
        run.interrupt()
        run.end()
    assert run.code == 130, run.output
    check_nothing_left(bench, run)


@pytest.mark.parametrize(("method", "trouble"), turns() if FULL else [*turns()[:2], ("Dial", "silent")])
def test_interrupt_in_trouble(shared_lab: SharedLab, method: str, trouble: str) -> None:
    """Ctrl-C while a request is tried again releases the lease."""
    with shared_lab.bench() as bench:
        bench.order(TROUBLES[trouble].format(method=method))
        interrupt_in(bench, method, 2 if trouble != "silent" else 1, *OPTIONS)


def test_interrupt_in_the_queue_during_a_start(shared_lab: SharedLab) -> None:
    """Ctrl-C in the queue while the lab controller starts withdraws the pending lease, if it has started soon."""
    with shared_lab.bench() as bench, bench.occupied():
        bench.suite(moments.ONE)
        with bench.run() as run:
            run.until_said("waiting ")
            bench.order("start for 2s")
            run.interrupt()
            run.end()
        assert run.code == 130, run.output
        check_nothing_left(bench, run)


def check_command(bench: Bench, run: Run) -> None:
    """Check that a run names the lease that is still active, with the command that releases it."""
    named = re.findall(rf"{GONE} (\S+)", run.output)
    assert set(named) == {lease.name for lease in bench.leases()}, run.output
    assert named, run.output


def test_release_refused(shared_lab: SharedLab) -> None:
    """If the lab controller refuses the release, the summary has the command, and the exit code is 8."""
    with shared_lab.bench() as bench:
        steps = moments.release(bench, "--jmp-ttl=90s")
        run = next(steps)
        bench.order("fail DeleteLease PERMISSION_DENIED 'permission denied'")
        run.go("HOLDING")
        run.end()
        steps.close()
        assert (run.code, run.count("passed")) == (8, 1), run.output
        check_command(bench, run)


def test_interrupt_while_nobody_answers(shared_lab: SharedLab) -> None:
    """Ctrl-C while the lab controller does not answer ends the run within seconds; the summary has the command."""
    with shared_lab.bench() as bench:
        steps = moments.calls(bench, "--jmp-ttl=90s")
        run = next(steps)
        bench.order("silence all")
        run.interrupt()
        run.end(timeout=40)
        steps.close()
        assert run.code == 130, run.output
        check_command(bench, run)


NAMES = {"own names": (), "the lab's names": ("rename",)}
"""Who names leases: coming lab controllers do it themselves."""


@pytest.mark.parametrize("names", NAMES)
def test_never_told_that_it_was_created(shared_lab: SharedLab, names: str) -> None:
    """A lease that was created although the answer was lost is found, used and released; there is no second one."""
    with shared_lab.bench() as bench:
        for order in (*NAMES[names], "lose CreateLease times 1"):
            bench.order(order)
        bench.suite(moments.ONE)
        before = bench.called("CreateLease")
        with bench.run() as run:
            run.end()
        check_unnoticed(run, bench)
        assert bench.called("CreateLease") == before + 1


@pytest.mark.parametrize("names", NAMES)
def test_worker_dies(shared_lab: SharedLab, names: str) -> None:
    """The lease of a worker that dies is released, and the next worker gets its board."""
    with shared_lab.bench() as bench:
        for order in NAMES[names]:
            bench.order(order)
        steps = moments.lost_worker(bench, "--jmp-ttl=90s", "--jmp-wait=60s")
        run = next(steps)
        for _ in steps:
            pass
        assert (run.count("failed"), run.count("passed")) == (1, 2), run.output
        check_nothing_left(bench, run)


@pytest.mark.parametrize("names", NAMES)
def test_interrupted_before_the_answer(shared_lab: SharedLab, names: str) -> None:
    """Ctrl-C before a run knows that its lease was created releases that lease."""
    with shared_lab.bench() as bench:
        for order in (*NAMES[names], "lose CreateLease times 1"):
            bench.order(order)
        bench.order(TROUBLES["start"].format(method="GetLease"))
        interrupt_in(bench, "GetLease", 2)


def test_never_told_that_it_was_released(shared_lab: SharedLab) -> None:
    """A lease that was released although the answer was lost is known to be released."""
    with shared_lab.bench() as bench:
        bench.order("lose DeleteLease times 1")
        bench.suite(moments.ONE)
        with bench.run() as run:
            run.end()
        check_unnoticed(run, bench)

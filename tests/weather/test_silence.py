"""
Lab controller, router, exporter or driver that never answer, or not any more: a device error, and retries go on.

A bound here is twice the bound of the wait in `running/waits.py`, because machines differ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from runs import frozen, until

from . import moments
from .checks import GONE, check_lab_blamed
from .inner_run import Run
from .shared_lab import HOOK, Bench, SharedLab

TTL = 6.0
RETRIED = ("--jmp-retries=1", f"--jmp-ttl={TTL:g}s")


@contextmanager
def ends_within(run: Run, seconds: float) -> Iterator[None]:
    """Wait for the end of a run, and check that it takes at most so many seconds from here."""
    began = time.monotonic()
    yield
    run.end(timeout=seconds + 30)
    assert time.monotonic() - began < seconds, run.output


@contextmanager
def on_the_last_board(bench: Bench, run: Run) -> Iterator[None]:
    """Start a run while only the last board of its bench is free, and wait until it has leased that."""
    with bench.occupied(0) as give_back, run:
        leased = [bench.boards[-1]]
        run.until_holds(lambda: [lease.exporter for lease in bench.leases()] == leased, "leased the last board")
        give_back()
        yield


def check_moved_on(run: Run, bench: Bench) -> None:
    """Check that a device error on the last board was retried on the first board, and passed."""
    check_lab_blamed(run, bench, codes=(0,))
    assert f"on {bench.boards[-1]} (" in run.output, run.output
    assert f"-> {bench.boards[0]}" in run.output, run.output


@pytest.mark.parametrize(("option", "bound"), [("--jmp-wait=6s", 15), ("--jmp-wait=60s", 45)], ids=["wait", "start"])
def test_controller_from_the_start(shared_lab: SharedLab, option: str, bound: float) -> None:
    """A lab controller that never answers ends a run after 20 s, or after `--jmp-wait` if that is less."""
    with shared_lab.bench() as bench:
        bench.order("silence all")
        bench.suite(moments.ONE)
        before = bench.called()
        with bench.run(option) as run:
            bench.until_called(None, 1, since=before)
            with ends_within(run, bound):
                pass
        assert run.code in (1, 8), run.output
        assert "no answer in time" in run.output, run.output


def test_controller_in_the_queue(shared_lab: SharedLab) -> None:
    """If it stops answering in the queue, the wait ends after `--jmp-wait`, with a device error."""
    with shared_lab.bench() as bench, bench.occupied():
        bench.suite(moments.ONE)
        with bench.run("--jmp-wait=8s") as run:
            run.until_said("waiting ")
            bench.order("silence all")
            with ends_within(run, 20 + 20):
                pass
        assert run.code == 8, run.output
        assert GONE in run.output, run.output  # a pending lease does not end by itself


def without_controller(bench: Bench, moment: moments.Moment, seconds: float) -> Run:
    """Let the lab controller stop answering while a lease is in use; return the run, which has ended in time."""
    steps = moment(bench, f"--jmp-ttl={TTL:g}s")
    run = next(steps)
    bench.order("silence all")
    run.go("HOLDING")
    with ends_within(run, seconds):
        pass
    steps.close()
    return run


def test_controller_while_a_lease_is_held(shared_lab: SharedLab) -> None:
    """If it stops answering while a lease is in use, that is a device error when the lease must have ended."""
    with shared_lab.bench() as bench:
        run = without_controller(bench, moments.calls, 60)
        assert run.code == 8, run.output
        assert run.count("device error") == 2, run.output
        until(lambda: bench.leases() == [], timeout=2 * TTL)


def test_controller_in_a_hook(shared_lab: SharedLab) -> None:
    """If it stops answering while a beforeLease hook runs, that is a device error when the lease must have ended."""
    with shared_lab.bench(kind=HOOK) as bench:
        run = without_controller(bench, moments.hook, 90)
        assert (run.code, run.count("device error")) == (8, 1), run.output
        assert "cannot be waited for: GetExporter" in run.output, run.output
        assert GONE in run.output, run.output
        until(lambda: bench.leases() == [], timeout=2 * TTL)


def test_controller_at_release(shared_lab: SharedLab) -> None:
    """If it stops answering before the release, the summary says so, with the command; the lease ends by itself."""
    with shared_lab.bench() as bench:
        run = without_controller(bench, moments.release, 90)
        assert run.code == 8, run.output
        assert (run.count("passed"), GONE in run.output) == (1, True), run.output
        until(lambda: bench.leases() == [], timeout=2 * TTL)


def test_controller_in_dial(shared_lab: SharedLab) -> None:
    """If it does not answer Dial, that is a device error, and the lease is released."""
    with shared_lab.bench() as bench:
        bench.order("silence Dial")
        bench.suite(moments.ONE)
        before = bench.called("Dial")
        with bench.run() as run:
            bench.until_called("Dial", 1, since=before)
            with ends_within(run, 60):
                pass
        check_lab_blamed(run, bench)
        assert "cannot be dialled" in run.output, run.output


def test_router_from_the_start(shared_lab: SharedLab) -> None:
    """A router that accepts connections and transfers nothing is a device error; retries use another router."""
    with (
        shared_lab.apart(plain=2) as apart,
        apart.bench(2) as bench,
        apart.lab.own_router() as router,
        frozen(router.pid),
    ):
        bench.suite(moments.ONE)
        before = bench.called("Dial")
        run = bench.run(*RETRIED)
        with on_the_last_board(bench, run):
            bench.until_called("Dial", 1, since=before)
            apart.lab.order(f"router-endpoint {apart.lab.endpoint}")
            with ends_within(run, 120):
                pass
        check_moved_on(run, bench)


CALLING = """
def test_it(dut):
    dut.counter.call("count", "it", 0)
    step("HOLDING")
    dut.counter.call("count", "it", 0)
"""


def test_router_from_a_moment_on(shared_lab: SharedLab) -> None:
    """A router that stops transferring is a device error for the running call; retries use another router."""
    with shared_lab.apart(plain=2) as apart, apart.bench(2) as bench, apart.lab.own_router() as router:
        bench.suite(CALLING)
        run = bench.run(*RETRIED)
        with on_the_last_board(bench, run):
            run.until_at("HOLDING")
            apart.lab.order(f"router-endpoint {apart.lab.endpoint}")
            with frozen(router.pid):
                run.go("HOLDING")
                with ends_within(run, 180):
                    pass
        check_moved_on(run, bench)


def test_exporter_from_the_start(shared_lab: SharedLab) -> None:
    """An exporter that is online and does nothing is a device error; retries use another exporter."""
    with shared_lab.bench(2) as bench, frozen(shared_lab.lab.exporter_process(bench.boards[-1])):
        bench.suite(moments.ONE)
        run = bench.run(*RETRIED)
        with on_the_last_board(bench, run), ends_within(run, 150):
            pass
        check_moved_on(run, bench)


def test_exporter_from_a_moment_on(shared_lab: SharedLab) -> None:
    """An exporter that stops answering is a device error for the running call; retries use another exporter."""
    with shared_lab.bench(2) as bench:
        bench.suite(CALLING)
        run = bench.run(*RETRIED)
        with on_the_last_board(bench, run):
            run.until_at("HOLDING")
            with frozen(shared_lab.lab.exporter_process(bench.boards[-1])):
                run.go("HOLDING")
                with ends_within(run, 180):
                    pass
        check_moved_on(run, bench)


def test_driver_that_does_not_connect(shared_lab: SharedLab) -> None:
    """A serial port that a driver never opens is a device error; retries use another board."""
    with (
        shared_lab.apart(plain=2, with_port=True) as apart,
        apart.bench(2) as bench,
        bench.stuck_port(bench.boards[-1]),
    ):
        bench.suite(
            """
            def test_it(dut):
                console = dut.console("port")
                console.expect("at last")
            """
        )
        run = bench.run(*RETRIED)
        with on_the_last_board(bench, run), ends_within(run, 120):
            pass
        check_moved_on(run, bench)

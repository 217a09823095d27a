"""
An exporter, lab or router that freezes for some seconds is never a test failure, whatever the run does.

A stopped process accepts connections and answers nothing, like a machine that is suspended or out of memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
from runs import frozen, until

from . import moments
from .checks import GONE, NEVER
from .inner_run import Run
from .moments import Steps
from .shared_lab import FULL, HOOK, PLAIN, Bench, SharedLab

MOMENTS: dict[str, Callable[..., Steps]] = {
    "queue": moments.queueing,
    "hook": moments.hook,
    "call": moments.call,
    "expect": moments.expect,
    "flash": moments.flash,
    "teardown": moments.teardown,
}
WITH_LATER = ("call", "expect", "flash", "teardown")
"""The moments in a test that another test follows."""

STORMS = [
    ("exporter", 17, tuple(MOMENTS)),
    ("lab", 17, tuple(MOMENTS)),
    ("router", 17, ("call", "expect", "teardown")),
    ("exporter", 5, ("expect",)),
    ("lab", 1, ("call", "expect")),
]
if FULL:
    STORMS = [
        (target, seconds, tuple(MOMENTS)) for seconds in (60, 17, 5, 1) for target in ("exporter", "lab", "router")
    ]


def bring(moment: str, bench: Bench, seconds: int) -> Steps:
    """Return a moment of a run; an `expect` ends shortly before the freeze does, if that is long enough."""
    if moment == "expect":
        return moments.expect(bench, "--jmp-ttl=2m", timeout=seconds - 2 if 2 < seconds < 20 else 15)
    return MOMENTS[moment](bench)


@contextmanager
def served(
    shared_lab: SharedLab, target: str, names: tuple[str, ...]
) -> Iterator[tuple[list[Bench], Callable[[], list[int]]]]:
    """Yield a bench for each moment, and a function that returns the processes to freeze, which only they use."""
    hooks = names.count("hook")
    with ExitStack() as stack:
        if target != "exporter":
            shared_lab = stack.enter_context(shared_lab.apart(plain=len(names) - hooks, hooked=hooks))
        router = stack.enter_context(shared_lab.lab.own_router()) if target == "router" else None
        kinds = [HOOK if name == "hook" else PLAIN for name in names]
        benches = [stack.enter_context(shared_lab.bench(kind=kind)) for kind in kinds]

        def pids() -> list[int]:
            if target == "exporter":
                return [shared_lab.lab.exporter_process(bench.boards[0]) for bench in benches]
            return [shared_lab.lab.pid if router is None else router.pid]

        yield benches, pids


def meet(steps: Steps, gate: threading.Barrier) -> Run:
    """Start a run, wait for its moment and the freeze, let it continue, and wait for the end of freeze and run."""
    with closing(steps):
        try:
            run = next(steps)
            gate.wait(120)  # for the freeze
            gate.wait(120)
            next(steps)
            gate.wait(120)  # for the thaw
        except BaseException:
            gate.abort()
            raise
        for _ in steps:
            pass
    return run


@pytest.mark.parametrize(("target", "seconds", "names"), STORMS, ids=[f"{storm[0]}-{storm[1]}s" for storm in STORMS])
def test_frozen(shared_lab: SharedLab, target: str, seconds: int, names: tuple[str, ...]) -> None:
    """Each run passes, or has one device error, more only if leases end meanwhile; nothing stays leased."""
    gate = threading.Barrier(len(names) + 1)
    with served(shared_lab, target, names) as (benches, pids), ThreadPoolExecutor(len(names)) as pool:
        runs = [
            pool.submit(meet, bring(name, bench, seconds), gate) for name, bench in zip(names, benches, strict=True)
        ]
        with suppress(threading.BrokenBarrierError):  # then one of the runs has the reason
            gate.wait(120)
            with frozen(*pids()):
                gate.wait(120)
                thaw = time.monotonic() + seconds
                until(lambda: time.monotonic() > thaw, timeout=2 * seconds)
            gate.wait(120)
        wrong = [told for name, run in zip(names, runs, strict=True) if (told := complaint(name, seconds, run))]
        until(lambda: not any(bench.leases() for bench in benches), timeout=60 if seconds == 60 else 1)
    assert not wrong, "\n\n".join(wrong)


def complaint(moment: str, seconds: int, outcome: Future[Run]) -> str:
    """Return what is wrong with the end of a run; empty if nothing is."""
    if isinstance(outcome.exception(), threading.BrokenBarrierError):
        return ""
    run = outcome.result()
    wrong = [f"exit code {run.code}"] if run.code not in ((0,) if seconds == 1 else (0, 8)) else []
    wrong += [word for word in ("failed", "error") if run.count(word)]
    wrong += [words for words in (*NEVER, *((GONE,) if seconds < 60 else ())) if words in run.output]
    if seconds < 60:  # shorter than the time to live of a lease
        wrong += ["several device errors"] if run.count("device error") > 1 else []
        is_later_lost = moment in WITH_LATER and "PASSED test_it.py::test_later" not in run.output
        wrong += ["the later test did not pass"] if is_later_lost else []
    return f"{moment}: {', '.join(wrong)}\n{run.output}" if wrong else ""

"""
Requests that fail: each status code that a lab controller returns, for each request of a run.

A temporary failure changes nothing. If it lasts longer than the time to live of the lease, the device is lost. A
refusal of token or permission counts when the second attempt is refused too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from runs import until

from . import moments
from .checks import GONE, check_lab_blamed, check_unnoticed
from .inner_run import Run
from .moments import Steps, through
from .shared_lab import FULL, Bench, SharedLab

TTL = 6.0
LONG = 9.0
PASSING = {
    "UNKNOWN": "etcdserver: leader changed",
    "INTERNAL": "Internal error occurred: failed calling webhook leases.jumpstarter.dev: EOF",
    "RESOURCE_EXHAUSTED": "too many requests",
    "ABORTED": "Operation cannot be fulfilled on leases: the object has been modified",
}
REFUSALS = {"UNAUTHENTICATED": "Unauthorized", "PERMISSION_DENIED": "permission denied"}
CODES = PASSING | REFUSALS
CALLS = [
    ("acquire", "CreateLease"),
    ("acquire", "GetLease"),
    ("acquire", "GetExporter"),
    ("acquire", "Dial"),
    ("hold", "GetLease"),
    ("hold", "GetExporter"),
    ("hold", "UpdateLease"),
    ("release", "DeleteLease"),
    ("release", "GetLease"),
]
"""What a run does, and the request that it sends for it."""

MOMENTS: dict[str, Callable[..., Steps]] = {
    "acquire": moments.requesting,
    "hold": moments.calls,
    "release": moments.release,
}


def turns(*axes: Iterable[object], calls: slice = slice(None)) -> list[tuple[Any, ...]]:
    """Return all combinations for each request; in CI one for each of `calls`, in turns."""
    every = list(itertools.product(*axes))
    if FULL:
        return [(*each, *call) for each, call in itertools.product(every, CALLS)]
    return [(*each, *call) for each, call in zip(itertools.cycle(every), CALLS[calls], strict=False)]


def bring(bench: Bench, when: str) -> Steps:
    """Return the moment of a run when it sends the requests."""
    return MOMENTS[when](bench, f"--jmp-ttl={TTL:g}s")


@contextmanager
def failing(
    bench: Bench, when: str, method: str, code: str, *, times: int, text: str = "", awaited: int | None = None
) -> Iterator[None]:
    """Let the next requests fail; while a lease is in use, until the request has come `awaited` times, or succeeded."""
    before = bench.called(method)
    bench.order(f'fail {method} {code} "{text or CODES[code]}" times {times}')
    yield
    if when == "hold":
        bench.until_called(method, awaited or times + 1, since=before)


def through_failures(bench: Bench, when: str, method: str, code: str, *, times: int, awaited: int | None = None) -> Run:
    """Return a run that has met so many failures of a request, and at least one more if `awaited` is not given."""
    began = 0

    @contextmanager
    def trouble() -> Iterator[None]:
        nonlocal began
        began = bench.called(method)
        with failing(bench, when, method, code, times=times, awaited=awaited):
            yield

    run = through(bring(bench, when), trouble)
    assert bench.called(method) - began >= (awaited or times + 1), run.output
    return run


@contextmanager
def failing_long(bench: Bench, when: str, method: str, code: str) -> Iterator[None]:
    """Let requests fail for longer than the time to live of the lease."""
    end = time.monotonic() + LONG
    bench.order(f'fail {method} {code} "{CODES[code]}" for {LONG:g}s')
    yield
    if when == "hold":
        until(lambda: time.monotonic() > end, timeout=2 * LONG)


@pytest.mark.parametrize(("code", "times", "when", "method"), turns(PASSING, (1, 3)))
def test_passing(shared_lab: SharedLab, code: str, times: int, when: str, method: str) -> None:
    """A temporary failure changes nothing, once or three times in a row."""
    with shared_lab.bench() as bench:
        check_unnoticed(through_failures(bench, when, method, code, times=times), bench)


@pytest.mark.parametrize(("code", "when", "method"), turns(REFUSALS, calls=slice(0, None, 3)))
def test_refused_once(shared_lab: SharedLab, code: str, when: str, method: str) -> None:
    """A refusal of token or permission that is not repeated changes nothing."""
    with shared_lab.bench() as bench:
        check_unnoticed(through_failures(bench, when, method, code, times=1), bench)


LOST_BY_REFUSALS = {("hold", "GetLease"): (8,), ("hold", "UpdateLease"): (8,), ("hold", "GetExporter"): (0, 8)}
"""The exit codes after three refusals in a row, which are a second or more apart there; elsewhere 0."""


@pytest.mark.parametrize(("code", "when", "method"), turns(REFUSALS, calls=slice(1, None, 3)))
def test_refused_three_times(shared_lab: SharedLab, code: str, when: str, method: str) -> None:
    """Three refusals in a row within a second change nothing; those of a second or more lose a lease in use."""
    codes = LOST_BY_REFUSALS.get((when, method), (0,))
    with shared_lab.bench() as bench:
        run = through_failures(bench, when, method, code, times=3, awaited=None if codes == (0,) else 2)
        assert run.code in codes, run.output
        assert run.code == 0 or CODES[code] in run.output, run.output
        assert bench.leases() == [], run.output


MET_BY_EXPORTERS = list(itertools.product(CODES, (1, 3)))


@pytest.mark.parametrize(("code", "times"), MET_BY_EXPORTERS if FULL else MET_BY_EXPORTERS[3::7])
def test_met_by_exporters(shared_lab: SharedLab, code: str, times: int) -> None:
    """If exporters meet it as they connect again, they may lose their lease; then the test is retried."""
    with shared_lab.bench() as bench:

        @contextmanager
        def trouble() -> Iterator[None]:
            before = bench.called(exporters=True)
            bench.order(f'fail all {code} "{CODES[code]}" times {times}', exporters=True)
            bench.order("start times 1", exporters=True)  # which ends their streams; the failure above counts first
            bench.order(f'fail all {code} "{CODES[code]}" times {times}')
            yield
            bench.until_called(None, times + 1, since=before, exporters=True)

        run = through(moments.calls(bench, "--jmp-retries=2", "--jmp-scope=function"), trouble)
        check_lab_blamed(run, bench, codes=(0,))
        assert run.count("passed") == 2, run.output


ENDS = {
    ("acquire", "CreateLease"): (0,),
    ("acquire", "Dial"): (0,),
    ("acquire", "GetLease"): (0, 8),  # its lease may end before it is extended
    ("acquire", "GetExporter"): (0, 8),
    ("hold", "GetExporter"): (0, 8),  # the lease itself is fine
    ("hold", "GetLease"): (8,),
    ("hold", "UpdateLease"): (8,),
    ("release", "DeleteLease"): (0,),
    ("release", "GetLease"): (0,),
}
"""The exit codes after a failure that lasted longer than the time to live of the lease."""


@pytest.mark.parametrize(("code", "when", "method"), turns(PASSING, calls=slice(0, None, 2)))
def test_passing_for_long(shared_lab: SharedLab, code: str, when: str, method: str) -> None:
    """A failure that outlasts the time to live of a lease in use is a device error; otherwise it changes nothing."""
    with shared_lab.bench() as bench:
        run = through(bring(bench, when), partial(failing_long, bench, when, method, code))
        check_lab_blamed(run, bench, codes=ENDS[when, method])


REFUSED = {
    ("acquire", "Dial"): (1, 8),  # as with a lease that is another client's by now
    ("hold", "GetExporter"): (0, 8),  # the lease itself is fine
    ("release", "GetLease"): (0,),  # it was released
}
"""The exit codes after a repeated refusal, where they are special."""


@pytest.mark.parametrize(("code", "when", "method"), turns(REFUSALS, calls=slice(1, None, 2)))
def test_refused_for_long(shared_lab: SharedLab, code: str, when: str, method: str) -> None:
    """A repeated refusal is a configuration error while acquiring, and a device error later; nothing stays leased."""
    codes = REFUSED.get((when, method)) or {"acquire": (1,), "hold": (8,), "release": (8,)}[when]
    with shared_lab.bench() as bench:
        run = through(bring(bench, when), partial(failing_long, bench, when, method, code))
        assert run.code in codes, run.output
        assert run.code == 0 or CODES[code] in run.output, run.output
        refused_release = (when, method) == ("release", "DeleteLease")
        assert (GONE in run.output) == refused_release, run.output
        until(lambda: bench.leases() == [], timeout=2 * TTL if refused_release else 0)


TEXT = "the bus is late"


def check_told(run: Run, bench: Bench, code: int) -> None:
    """Check that a run ends with an exit code and the lab controller's own words, within twice 20 s."""
    assert run.code == code, run.output
    assert TEXT in run.output, run.output
    assert run.seconds < 40 + 10, run.output  # what starting takes
    assert bench.leases() == [], run.output


def test_unknown_text_from_the_start(shared_lab: SharedLab) -> None:
    """After an unknown text, requests are tried again for 20 s; then it is a configuration error with that text."""
    with shared_lab.bench() as bench:
        bench.order(f'fail all UNKNOWN "{TEXT}"')
        bench.suite(moments.ONE)
        with bench.run() as run:
            check_told(run.end(), bench, 1)


def test_unknown_text_after_answers(shared_lab: SharedLab) -> None:
    """If the lab controller had answered in this run, it is a device error."""
    with shared_lab.bench() as bench:
        run = through(
            bring(bench, "acquire"), partial(failing, bench, "acquire", "CreateLease", "UNKNOWN", times=999, text=TEXT)
        )
        check_told(run, bench, 8)


def test_unknown_text_while_a_lease_is_held(shared_lab: SharedLab) -> None:
    """While a lease is in use, an unknown text is a temporary failure."""
    with shared_lab.bench() as bench:
        run = through(bring(bench, "hold"), partial(failing, bench, "hold", "GetLease", "UNKNOWN", times=3, text=TEXT))
        check_unnoticed(run, bench)

"""
The moments of a run at which a failure begins.

Each moment is a generator with three steps. It starts a run of the bench's suite, waits for the moment, and yields the
run. The failure begins, and the generator lets the run continue. The failure ends, and it waits for the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from typing import Any

from .inner_run import Run
from .shared_lab import Bench

Steps = Generator[Run, None, None]
Moment = Callable[..., Steps]

ONE = """
def test_it(dut):
    dut.counter.call("count", "it", 0)
"""


def through(steps: Steps, trouble: Callable[[], AbstractContextManager[Any]]) -> Run:
    """Let `trouble` begin and end at a moment of a run; return the run, which has ended."""
    with closing(steps):
        run = next(steps)
        with trouble():
            next(steps)
        for _ in steps:
            pass
    return run


def _at_step(bench: Bench, step: str, *options: str) -> Steps:
    """Wait until a test has come to a step; it goes on during the failure, and loops of tests end after it."""
    with bench.run(*options) as run:
        run.until_at(step)
        yield run
        run.go(step)
        yield run
        run.over()
        run.end()


def before(bench: Bench, *options: str) -> Steps:
    """Start a run during the failure."""
    bench.suite(ONE)
    run = bench.run(*options)
    yield run
    with run:
        yield run
        run.end()


def requesting(bench: Bench, *options: str) -> Steps:
    """Just before a run requests its lease; the lab controller has answered it before."""
    bench.suite(ONE, conftest="def pytest_jumpstarter_lease_request(): step('REQUESTING')")
    yield from _at_step(bench, "REQUESTING", *options)


def queueing(bench: Bench, *options: str) -> Steps:
    """While a run waits for a board that another client has leased during the whole failure."""
    bench.suite(ONE)
    with bench.occupied() as give_back, bench.run(*options) as run:
        run.until_said("waiting ")
        yield run
        yield run
        give_back()
        run.end()


def pending(bench: Bench, *options: str) -> Steps:
    """While a lease is pending; it becomes Ready during the failure."""
    bench.suite(ONE)
    with bench.occupied() as give_back, bench.run(*options) as run:
        run.until_said("waiting ")
        yield run
        give_back()
        yield run
        run.end()


def hook(bench: Bench, *options: str) -> Steps:
    """While a beforeLease hook runs; it ends during the failure. The boards of the bench must have a hook."""
    bench.suite(ONE)
    with bench.hook_holds() as go_on, bench.run(*options) as run:
        run.until_said("is BEFORE_LEASE_HOOK")
        yield run
        go_on()
        yield run
        run.end()


_CALLS = """
def test_it(dut, console):
    step("HOLDING")
    dut.power.on()
    console.expect("login: ")
    while not is_over():
        dut.counter.call("count", "it", 0.2)
        dut.power.cycle(wait=0)
        console.expect("login: ")

def test_later(dut):
    dut.counter.call("count", "later", 0)
"""


def calls(bench: Bench, *options: str) -> Steps:
    """While a test calls drivers and reads a console."""
    bench.suite(_CALLS)
    yield from _at_step(bench, "HOLDING", *options)


_HOLDING = """
def test_it(dut):
    dut.counter.call("count", "it", 0)
    step("HOLDING")
"""


def release(bench: Bench, *options: str) -> Steps:
    """Just before the last test ends and the lease is released."""
    bench.suite(_HOLDING)
    yield from _at_step(bench, "HOLDING", *options)


_WORKERS = """
@pytest.mark.parametrize("number", range(4))
def test_it(dut, number):
    step("HOLDING")
    dut.counter.call("count", "it", 0)
"""


def handing_over(bench: Bench, *options: str) -> Steps:
    """Just before one of two workers releases the only board, which the other waits for."""
    bench.suite(_WORKERS)
    with bench.run("-n2", *options) as run:
        run.until_at("HOLDING")
        run.until_said("waiting ")
        yield run
        run.go("HOLDING")
        yield run
        run.end()


_TWO = """
WORKER = os.environ["PYTEST_XDIST_WORKER"]

@pytest.mark.parametrize("number", range(4))
def test_it(dut, number):
    step(f"HOLDING-{WORKER}")
    while not is_over():
        dut.counter.call("count", "it", 0.2)
"""


def two_workers(bench: Bench, *options: str) -> Steps:
    """While two workers call the drivers of a board each."""
    bench.suite(_TWO)
    with bench.run("-n2", *options) as run:
        for worker in ("gw0", "gw1"):
            run.until_at(f"HOLDING-{worker}")
        yield run
        for worker in ("gw0", "gw1"):
            run.go(f"HOLDING-{worker}")
        yield run
        run.over()
        run.end()


_DYING = """
import signal

def test_it(dut):
    step("HOLDING")
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("number", range(2))
def test_later(dut, number):
    dut.counter.call("count", "later", 0)
"""


def lost_worker(bench: Bench, *options: str) -> Steps:
    """Just before a worker dies: its lease is released, and the next worker gets a board."""
    bench.suite(_DYING)
    yield from _at_step(bench, "HOLDING", "-n1", *options)


_CALL = """
def test_it(dut):
    dut.power.on()
    dut.counter.call("count", "{name}", 4)

def test_later(dut):
    dut.counter.call("count", "later", 0)
"""


def call(bench: Bench, *options: str) -> Steps:
    """During one driver call."""
    name = f"under-way-{bench.boards[0]}-{bench.client}"
    bench.suite(_CALL.format(name=name))
    before = bench.lab.calls.count(name)
    with bench.run(*options) as run:
        run.until_holds(lambda: bench.lab.calls.count(name) > before, "began its call")
        yield run
        yield run
        run.end()


_EXPECT = """
def test_it(dut, console):
    dut.power.cycle(wait=0)
    console.expect("login: ")
    console.sendline("root")
    console.expect("# ")
    step("HOLDING")
    console.sendline("version")
    console.expect("# ", timeout={timeout})

def test_later(dut):
    dut.counter.call("count", "later", 0)
"""


def expect(bench: Bench, *options: str, timeout: float = 15.0) -> Steps:
    """Just before a test sends a line and waits for the answer."""
    bench.suite(_EXPECT.format(timeout=timeout))
    yield from _at_step(bench, "HOLDING", *options)


_FLASH = """
import threading

def test_it(dut, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"2.0.0\\n")
    os.truncate(image, 192 * 1024 * 1024)
    threading.Timer(0.3, pathlib.Path("FLASHING").touch).start()
    dut.storage.flash(image)

def test_later(dut):
    dut.counter.call("count", "later", 0)
"""


def flash(bench: Bench, *options: str) -> Steps:
    """While an image is written to the board."""
    bench.suite(_FLASH)
    with bench.run(*options) as run:
        run.until_at("FLASHING")
        yield run
        yield run
        run.end()


_TEARDOWN = """
@pytest.fixture
def off(dut, console):
    dut.power.on()
    console.expect("login: ")
    yield
    step("TEARDOWN")
    console.discard()
    dut.power.off()

def test_it(off):
    pass

def test_later(dut):
    dut.counter.call("count", "later", 0)
"""


def teardown(bench: Bench, *options: str) -> Steps:
    """Just before the teardown of a fixture calls drivers."""
    bench.suite(_TEARDOWN)
    yield from _at_step(bench, "TEARDOWN", *options)

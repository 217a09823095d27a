"""However a run is ended, its boards are free: before the process ends, or within the time to live."""

from __future__ import annotations

import inspect
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType, FunctionType
from typing import cast

import pytest
from runs import occupied, running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.running.current_test import CurrentTest
from pytest_jumpstarter.running.interrupt import give_lines
from pytest_jumpstarter.signals import OrderlyStop

ActiveLeases = Callable[[], list[Lease]]

TTL = 5.0
HOLD = """
    def test_it(dut, console):
        print("HOLDING", flush=True)
        console.expect("never", timeout=60)
"""
HOLD_IN_SETUP = """
    import pytest
    @pytest.fixture
    def booted(dut):
        print("HOLDING", flush=True)
        dut.console().expect("never", timeout=60)
    def test_it(booted): pass
"""
HOLD_IN_TEARDOWN = """
    import pytest
    @pytest.fixture
    def booted(dut):
        yield
        print("HOLDING", flush=True)
        dut.console().expect("never", timeout=60)
    def test_it(booted): pass
"""
BOARD_USED_IN_TEARDOWN = """
    import pytest, time
    @pytest.fixture
    def booted(dut):
        yield
        dut.power.off()   # the board has gone back by now
    def test_it(booted):
        print("HOLDING", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
@pytest.mark.parametrize(
    "source",
    [HOLD, HOLD_IN_SETUP, HOLD_IN_TEARDOWN, BOARD_USED_IN_TEARDOWN],
    ids=["in a test", "in setup", "in teardown", "board used in teardown"],
)
def test_signal(
    suite: pytest.Pytester, active_leases: ActiveLeases, source: str, number: signal.Signals, code: int
) -> None:
    """A signal gives the board back before the process ends, with the exit code of that signal."""
    suite.makepyfile(source)
    with running(suite) as process:
        wait_for(process.stdout, "HOLDING")
        assert len(active_leases()) == 1
        process.send_signal(number)
        output = process.communicate(timeout=30)[0]
        assert process.returncode == code, output
    assert active_leases() == []
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output


def test_interrupt_in_code_of_exec(suite: pytest.Pytester) -> None:
    """Python would end the process by SIGINT instead of the exit code; dataclasses are made by `exec`, for example."""
    suite.makepyfile(
        """
        def test_it(dut):
            exec("import time; print('HOLDING', flush=True); time.sleep(60)")
        """
    )
    with running(suite) as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 130, output


def test_signal_in_code_without_a_line(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """The jump at a loop's end has no line in Python 3.11, and pytest dies of a traceback that begins there."""
    suite.makepyfile(
        """
        import time
        def spin(numbers):
            found = 0
            for number in numbers:
                if number:
                    if number > 1: found += 1
            return found
        def test_it(dut):
            print("HOLDING", flush=True)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                spin([0, 1, 2] * 10_000)
        """
    )
    for _ in range(3):  # by chance one of the signals comes where there is a line
        with running(suite) as process:
            wait_for(process.stdout, "HOLDING")
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=30)[0]
        assert process.returncode == 130, output
        assert "Traceback" not in output
        shown = next(line for line in output.splitlines() if line.endswith(": KeyboardInterrupt"))
        assert shown.startswith(str(suite.path)), "the place is the test's"
    assert active_leases() == []


def _raise(error: Exception) -> None:
    raise error


def _without_lines(function: FunctionType) -> FunctionType:
    """Return a function whose code has a line at its first instruction only; CPython's `InternalDocs/locations.md`."""
    code = function.__code__
    rest = len(code.co_code) // 2 - 1
    table = bytes([0x80 | 10 << 3, 0, 0])
    while rest > 0:
        table += bytes([0x80 | 15 << 3 | min(rest, 8) - 1])
        rest -= 8
    return FunctionType(code.replace(co_linetable=table), function.__globals__)


def _lines(error: BaseException | None) -> list[int | None]:
    return [place.lineno for place in traceback.extract_tb(error.__traceback__ if error else None)]


def test_error_in_code_without_a_line() -> None:
    """Such a place is shown with the line before it, in what led to an error too; other places keep theirs."""
    raise_nowhere = _without_lines(cast("FunctionType", _raise))
    with pytest.raises(KeyError) as caught:  # noqa: PT012 - one error on the way to the other
        try:
            raise_nowhere(ValueError())
        except ValueError:
            raise_nowhere(KeyError())
    errors = (caught.value, caught.value.__context__)
    before = [_lines(error) for error in errors]
    assert [line for _, line in before] == [None, None]
    give_lines(caught)
    assert [_lines(error) for error in errors] == [[line, _raise.__code__.co_firstlineno] for line, _ in before]
    caught.getrepr()


def test_error_in_code_without_a_line_of_unittest(suite: pytest.Pytester) -> None:
    """It is shown where unittest's plugin puts an error of its own in place of the one that was caught."""
    suite.makepyfile(
        nowhere=f"from types import FunctionType\n\n{inspect.getsource(_raise)}\n{inspect.getsource(_without_lines)}"
    )
    suite.makepyfile(
        """
        import unittest, pytest
        from nowhere import _raise, _without_lines
        class Test(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _dut(self, dut): self.dut = dut
            def test_it(self):
                _without_lines(_raise)(OSError("the board is gone"))
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*OSError: the board is gone"])


def test_interruptible_after_a_subtest() -> None:
    """A subtest's report is made while its test goes on, which may still be ended when its board is lost."""
    test = CurrentTest()
    phase = test.pytest_runtest_call()
    next(phase)
    next(test.pytest_runtest_makereport(pytest.CallInfo.from_call(lambda: None, "call")))
    assert test.is_interruptible
    phase.close()
    assert not test.is_interruptible


def test_interrupt_twice(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A second Ctrl-C ends the process in spite of a teardown that hangs, and the board is free."""
    suite.makepyfile(
        """
        import pytest, time
        @pytest.fixture
        def slow(dut):
            yield
            print("TEARDOWN", flush=True)
            time.sleep(60)
        def test_it(slow):
            print("HOLDING", flush=True)
            time.sleep(60)
        """
    )
    with running(suite) as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGINT)
        wait_for(process.stdout, "TEARDOWN")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in (-signal.SIGINT, 130)
    assert active_leases() == []


def test_nothing_is_interrupted_after_a_signal(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """That a signal's release takes the device from the test is no reason to interrupt what pytest does then."""
    suite.makeconftest("import time\ndef pytest_keyboard_interrupt(): time.sleep(12)")
    suite.makepyfile(
        """
        import pytest, time
        @pytest.fixture
        def holding(dut):
            print("HOLDING", flush=True)
            time.sleep(60)
        def test_it(holding): pass
        """
    )
    with running(suite, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode in (-signal.SIGTERM, 143), output
    assert "LeaseLost" not in output
    assert active_leases() == []


def test_ignored_signal_stays_ignored(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Under nohup a hang-up is none: the run goes on to its end."""
    suite.makepyfile(
        """
        import os, signal
        def test_it(dut):
            os.kill(os.getpid(), signal.SIGHUP)
            dut.power.on()
        """
    )
    with running(suite, wrapper=["nohup"]) as process:
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
    assert active_leases() == []


def test_former_handlers_are_chained_and_restored(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A handler that was there before is called too, and is back in place at the end."""
    suite.makeconftest(
        """
        import signal
        def theirs(number, frame): print("THEIRS", number, flush=True)
        signal.signal(signal.SIGTERM, theirs)
        def pytest_unconfigure(config): print("RESTORED", signal.getsignal(signal.SIGTERM) is theirs, flush=True)
        """
    )
    suite.makepyfile(HOLD)
    with running(suite) as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0]
    assert process.returncode == 143, output
    assert "THEIRS 15" in output
    assert "RESTORED True" in output
    assert active_leases() == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef test_it(dut): os._exit(3)",
        "import os\ndef test_it(dut): os.abort()",
        "import os, signal\ndef test_it(dut): os.kill(os.getpid(), signal.SIGKILL)",
    ],
    ids=["os._exit", "os.abort", "SIGKILL"],
)
def test_sudden_death(suite: pytest.Pytester, active_leases: ActiveLeases, source: str) -> None:
    """A process that cannot do anything any more leaves its board leased for one time to live at most."""
    suite.makepyfile(source)
    with running(suite, f"--jmp-ttl={TTL:g}") as process:
        process.wait(timeout=30)
        assert len(active_leases()) == 1
        until(lambda: active_leases() == [], timeout=2 * (TTL + 2))


def test_sudden_death_in_the_queue(suite: pytest.Pytester, client: Client, active_leases: ActiveLeases) -> None:
    """A lease whose process died in the queue is free one time to live after it got its board."""
    suite.makepyfile("def test_it(dut): pass")
    with occupied(client), running(suite, f"--jmp-ttl={TTL:g}") as process:
        wait_for(process.stdout, "waiting")
        process.kill()
        process.wait(timeout=30)
        assert len(active_leases()) == 2
    until(lambda: active_leases() == [], timeout=2 * (TTL + 2))


def test_stopped_past_the_time_to_live(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A process that is stopped for too long loses its board, and says so when it goes on."""
    suite.makepyfile(HOLD)
    with running(suite, f"--jmp-ttl={TTL:g}") as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGSTOP)
        until(lambda: active_leases() == [], timeout=2 * (TTL + 2))
        process.send_signal(signal.SIGCONT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "The lease has expired" in output


def test_fork(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A forked child that leaves by sys.exit takes no board with it."""
    suite.makepyfile(
        """
        import os, sys
        def test_it(dut, jumpstarter):
            child = os.fork()
            if child == 0:
                sys.exit(0)   # which pytest takes for a failure: the child goes through every teardown
            os.waitpid(child, 0)
            assert not jumpstarter.client.get_lease(dut.lease.name).is_ended
            dut.power.on()
        """
    )
    with running(suite) as process:
        output = process.communicate(timeout=60)[0]
    assert "1 passed" in output
    assert process.returncode == 0, output
    assert active_leases() == []


def test_lease_outlives_its_time_to_live_while_it_is_needed(
    suite: pytest.Pytester, active_leases: ActiveLeases
) -> None:
    """A test that blocks longer than the time to live keeps its board."""
    suite.makepyfile(
        f"""
        import time
        def test_it(dut, jumpstarter):
            time.sleep({TTL * 2})
            lease = jumpstarter.client.get_lease(dut.lease.name)
            assert lease.is_ready and lease.duration > {TTL * 2}
            dut.power.on()
        """
    )
    suite.runpytest(f"--jmp-ttl={TTL:g}").assert_outcomes(passed=1)
    assert active_leases() == []


def test_max_hold(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """--jmp-max-hold ends a lease in the middle of a test, which is a device error that says so."""
    suite.makepyfile(HOLD)
    result = suite.runpytest("--jmp-ttl=5s", "--jmp-max-hold=6s")
    assert result.ret == 8
    result.stdout.fnmatch_lines(["*lease pj-* was held for *, all that --jmp-max-hold allows*"])
    assert active_leases() == []


def test_timeout_by_signal(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """pytest-timeout's signal method fails the test, and the board goes back as after any failure."""
    suite.makepyfile(HOLD)
    with running(suite, "--timeout=3", "--timeout-method=signal") as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "Timeout (>3.0s)" in output
    assert active_leases() == []


def test_timeout_by_thread(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """pytest-timeout's thread method ends the process at once: the board is free within the time to live."""
    suite.makepyfile(HOLD)
    with running(suite, f"--jmp-ttl={TTL:g}", "--timeout=3", "--timeout-method=thread") as process:
        process.communicate(timeout=60)
        assert process.returncode == 1
        until(lambda: active_leases() == [], timeout=2 * (TTL + 2))


def test_full_disk(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A disk without space costs a report, not a board."""
    suite.makepyfile("def test_it(dut): dut.power.on()")
    with running(suite, "--junitxml=/dev/full") as process:
        output = process.communicate(timeout=60)[0]
    assert "No space left on device" in output
    assert process.returncode not in (0, 8)
    assert active_leases() == []


@pytest.mark.parametrize("begun", [OrderlyStop._handle, OrderlyStop._start_release])
def test_second_signal_before_the_first_is_noted(begun: FunctionType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes when the handler of another has just begun is the second, and the other the first."""
    stop = OrderlyStop(release=lambda: None)
    ended: list[int] = []
    monkeypatch.setattr(stop, "_end_as", ended.append)
    seen: list[FrameType] = []

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is begun.__code__ and not seen:
            seen.append(frame)
            stop._handle(signal.SIGTERM, frame)

    sys.setprofile(interrupt)
    try:
        with pytest.raises(pytest.exit.Exception):
            stop._handle(signal.SIGINT, None)
    finally:
        sys.setprofile(None)
    assert (stop.received, ended) == (signal.SIGINT, [signal.SIGTERM])

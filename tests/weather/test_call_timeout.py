"""`--jmp-call-timeout`: no driver call takes longer; whose fault it is follows from what the lab did meanwhile."""

from __future__ import annotations

import pytest
from faulty import FaultyLab
from runs import frozen, running, until

SUITE = """
    import pytest
    from pytest_jumpstarter.errors import CallTimeout

    def in_loop(driver, *args):
        return driver.portal._call_in_loop(driver.call_async, *args)

    def test_plain(dut):
        with pytest.raises(CallTimeout, match="driver call 'count' took longer than --jmp-call-timeout=1s allows"):
            dut.counter.call("count", "plain", 4)
    def test_in_loop(dut):
        with pytest.raises(TimeoutError, match="driver call 'count' took longer than --jmp-call-timeout=1s allows"):
            in_loop(dut.counter, "count", "loop", 4)
    def test_stream(dut):
        with pytest.raises(CallTimeout, match="driver call 'read_slowly' took longer than"):
            list(dut.counter.streamingcall("read_slowly", 4))
    def test_quick(dut):
        dut.counter.call("count", "quick", 0)
    def test_slow(dut):
        dut.counter.call("count", "slow", 4)
"""


def test_call_that_takes_long(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call that takes too long raises an error that names method and option: a test failure, if the lab answers."""
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("--jmp-call-timeout=1s")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*CallTimeout: driver call 'count' took longer than --jmp-call-timeout=1s allows"])
    assert boards.calls == ["plain", "loop", "quick", "slow"]


def test_lab_was_silent(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call that took too long while the exporter did not answer is a device error, though it answers again."""
    pytester.makepyfile('def test_it(dut): dut.counter.call("count", "long", 60)')
    with running(pytester, "--jmp-call-timeout=12s", "--jmp-ttl=60s") as process:
        until(lambda: boards.calls == ["long"], timeout=30)
        with frozen(boards.exporter_process("board-1"), seconds=8):
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "1 device error in" in output

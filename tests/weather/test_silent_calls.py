"""Calls that hear nothing: an outage that has passed is the lab's, silence of the product is the product's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faulty import FaultyLab
from runs import frozen, running, until, wait_for

EXPECT = """
    def test_silent(console):
        print("HOLDING", flush=True)
        console.expect("never", timeout=12)
    def test_later(dut):
        dut.counter.call("count", "later", 0)
"""

FROZEN: dict[str, Callable[[FaultyLab], list[int]]] = {
    "lab": lambda lab: [lab.pid],
    "exporter": lambda lab: [lab.exporter_process("board-1")],
}


@pytest.mark.parametrize("who", FROZEN)
def test_outage_that_has_passed(boards: FaultyLab, pytester: pytest.Pytester, who: str) -> None:
    """A console that said nothing while lab or exporter did not answer is a device error, though all is well again."""
    pytester.makepyfile(EXPECT)
    with running(pytester, "--jmp-ttl=60s") as process:
        wait_for(process.stdout, "HOLDING")
        with frozen(*FROZEN[who](boards), seconds=9):
            output = process.communicate(timeout=90)[0]
    assert process.returncode == 8, output
    assert "1 passed, 1 device error in" in output
    assert boards.calls == ["later"]


def test_nothing_was_wrong(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A console that says nothing while lab and exporter answer is a failure of the product."""
    pytester.makepyfile(EXPECT)
    pytester.runpytest_subprocess("--jmp-ttl=60s").assert_outcomes(passed=1, failed=1)


def test_silence_for_good(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call to an exporter that answers nothing for the time to live ends, and people were told of the silence."""
    pytester.makeconftest("from pytest_jumpstarter.leasing import call_watch\ncall_watch.WARN_AFTER = 4.0")
    pytester.makepyfile(
        """
        def test_it(dut):
            print("HOLDING", flush=True)
            dut.counter.call("count", "long", 60)
        """
    )
    with running(pytester, "--jmp-ttl=10s") as process:
        wait_for(process.stdout, "HOLDING")
        until(lambda: boards.calls == ["long"], timeout=30)
        with frozen(boards.exporter_process("board-1")):
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "dut: nothing came for" in output
    assert "exporter board-1 has answered nothing for 1" in output

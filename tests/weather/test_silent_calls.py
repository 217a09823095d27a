"""Calls that hear nothing: an outage that has passed is the lab's, silence of the product is the product's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import FaultyLab
from forwarder import Forwarder
from runs import frozen, running, until, wait_for
from standalone import RunningExporter, serving

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
    assert "dut: a call has waited for" in output
    assert "exporter board-1 has answered nothing for 1" in output


def test_without_a_tunnel(running_exporter: RunningExporter, pytester: pytest.Pytester, tmp_path: Path) -> None:
    """With `--jmp-direct`, too, a call to an exporter that answers nothing for the time to live is a device error."""
    pytester.makeconftest("from pytest_jumpstarter.leasing.connect import Access\nAccess.ttl = 5.0")
    pytester.makepyfile(
        """
        def test_it(dut):
            print("HOLDING", flush=True)
            while True:
                dut.power.on()
        """
    )
    with (
        serving(running_exporter, tmp_path, "--tls-grpc-insecure") as address,
        Forwarder(address) as way,
        running(pytester, f"--jmp-direct=grpc://{way.endpoint}") as process,
    ):
        wait_for(process.stdout, "HOLDING")
        with frozen(way.pid):
            output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert f"exporter {way.endpoint} has answered nothing for" in output


SILENT_PRODUCT = """
    def test_it(console):
        print("HOLDING", flush=True)
        console.expect("never", timeout=6)
"""


def test_silent_controller_is_no_excuse(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A console that is silent while the exporter answers is a failure of the product, even without lab controller."""
    pytester.makepyfile(SILENT_PRODUCT)
    with running(pytester, "--jmp-ttl=60s") as process:
        wait_for(process.stdout, "HOLDING")
        boards.order("silence GetLease,GetExporter for 4s")
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "1 failed in" in output

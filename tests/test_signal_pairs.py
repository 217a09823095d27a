"""Two signals, so close to each other that the second comes while the first is being handled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from runs import running, wait_for

from pytest_jumpstarter.client.v1 import Lease

PAIRS = int(os.environ.get("PYTEST_SIGNAL_PAIRS", "4"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A signal that comes between Python's look for signals and the call of the system is only seen when the call has ended.
# So what a blocked test prints, it prints while it is blocked.
SUITES = (
    """
    import threading, time
    def test_slow(dut):
        threading.Timer(0.2, print, ["HOLDING"], {"flush": True}).start()
        time.sleep(60)
    """,
    """
    import threading
    def test_busy(dut):
        print("HOLDING", flush=True)
        while True:
            dut.power.on()
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
    """,
    """
    import threading, time
    def test_stubborn(dut):
        threading.Timer(0.2, print, ["HOLDING"], {"flush": True}).start()
        try: time.sleep(60)
        except BaseException: pass
    """,
)
NEXT = """
    def test_next(dut): print("NEXT TEST RUNS")
    def test_last(): print("NEXT TEST RUNS")
"""


@pytest.mark.parametrize("number", range(PAIRS))
def test_pair(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], number: int) -> None:
    """The run ends with the code of a signal, no further test starts, and nothing stays leased."""
    chance = random.Random(number)
    first, second = chance.choice(SIGNALS), chance.choice(SIGNALS)
    suite.makepyfile(SUITES[number % len(SUITES)], test_next=NEXT)
    with running(suite, "-v") as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(first)
        time.sleep(chance.uniform(0, 0.005))
        process.send_signal(second)
        output = process.communicate(timeout=60)[0]
    codes = {code for each in (first, second) for code in (-each, 128 + each)}
    assert process.returncode in codes, output
    assert "NEXT TEST RUNS" not in output
    assert "RuntimeError" not in output
    assert "INTERNALERROR" not in output
    assert active_leases() == []


def test_swallowed_signal(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]) -> None:
    """After a signal no test starts, although the test caught what the signal raised."""
    suite.makepyfile(SUITES[2], test_next=NEXT)
    with running(suite, "-v") as process:
        wait_for(process.stdout, "HOLDING")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "NEXT TEST RUNS" not in output
    assert active_leases() == []

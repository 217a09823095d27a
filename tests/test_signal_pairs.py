"""Two signals, so close to each other that the second comes while the first is being handled."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import LAB_FILE
from runs import running, until, wait_for

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


LATE = 0.03
"""Seconds after which the run may have ended before it gets the second signal: this process may be held up, too."""


def codes(first: int, second: int, *, is_late: bool) -> set[int]:
    """
    Return the exit codes that a run may have.

    The second signal ends the process. If Python sees both at once it handles the lower number first; if both are the
    same, it may see only one.
    """
    found = {-second} | ({-first} if first > second else set())
    return found | ({128 + first} if first == second or is_late else set())


def left(folder: Path) -> list[str]:
    """Return what is left of a run: processes with this folder for temporary files, and what is in the folder."""
    wanted = f"TMPDIR={folder}".encode()
    found = [str(path) for path in folder.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", range(PAIRS))
def test_pair(
    suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The run ends with the code of a signal, no further test starts, and nothing is left: leases, processes, files."""
    chance = random.Random(number)
    first, second = chance.choice(SIGNALS), chance.choice(SIGNALS)
    suite.makepyfile(SUITES[number % len(SUITES)], test_next=NEXT)
    if number % 4 == 3:
        suite.path.joinpath("lab.yaml").write_text(LAB_FILE)
        suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = lab.yaml\n")
    monkeypatch.setenv("TMPDIR", str(folder := suite.mkdir("t")))  # sockets have short paths
    with running(suite, "-v") as process:
        wait_for(process.stdout, "HOLDING")
        assert left(folder) != []  # the run itself
        process.send_signal(first)
        sent = time.monotonic()
        time.sleep(chance.uniform(0, 0.005))
        process.send_signal(second)
        is_late = time.monotonic() - sent > LATE
        output = process.communicate(timeout=60)[0]
    assert process.returncode in codes(first, second, is_late=is_late), (first, second, output)
    assert "NEXT TEST RUNS" not in output
    assert "RuntimeError" not in output
    assert "INTERNALERROR" not in output
    assert active_leases() == []
    until(lambda: left(folder) == [], timeout=30)


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

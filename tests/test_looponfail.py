"""`pytest -f` of pytest-xdist, at a terminal: it runs the tests again whenever a file has changed, until Ctrl-C."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from runs import AT_TERMINAL, running, until, wait_for

from pytest_jumpstarter.client.v1 import Lease

CTRL_C = "\x03"


@pytest.fixture(autouse=True)
def _only_with_full(request: pytest.FixtureRequest) -> None:
    """Skip these tests, which wait for xdist to look for changes, in a usual run."""
    if not request.config.getoption("full"):
        pytest.skip("only with --full")


def test_looponfail(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]) -> None:
    """Each loop leases a board and gives it back, a test that fails is run again alone, and Ctrl-C leaves nothing."""
    test = suite.path / "test_it.py"
    source = "def test_it(dut): print('HELD', dut.lease.name.rpartition('/')[2]); assert {!r} != 'broken'\n"
    leases = []
    with running(suite, "-f", wrapper=AT_TERMINAL) as process:
        for edited, runs in (("new", 1), ("broken", 1), ("mended", 2)):  # when the last failure passes, all run again
            test.write_text(source.format(edited))
            output = wait_for(process.stdout, "waiting for changes")
            leases += (held := re.findall(r"HELD (\S+)", output))
            assert len(held) == runs, output
            assert output.count("1 failed" if edited == "broken" else "1 passed") == runs, output
            assert "INTERNALERROR" not in output
            assert active_leases() == []
        assert process.stdin is not None
        process.stdin.write(CTRL_C)
        process.stdin.flush()
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "Traceback" not in output, output
    assert len(set(leases)) == 4, leases
    assert active_leases() == []


def test_ctrl_c_in_a_loop(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]) -> None:
    """Ctrl-C while a test runs ends the loop, and gives the board back."""
    suite.makepyfile("import time\ndef test_it(dut):\n    print('HELD', flush=True)\n    time.sleep(600)")
    with running(suite, "-f", wrapper=AT_TERMINAL) as process:
        wait_for(process.stdout, "HELD")
        assert process.stdin is not None
        process.stdin.write(CTRL_C)
        process.stdin.flush()
        output = process.communicate(timeout=60)[0]
    assert "INTERNALERROR" not in output
    until(lambda: active_leases() == [], timeout=30)

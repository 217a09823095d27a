"""A router that is away for a moment, or for good, or never was there: the device stays, and the router is blamed."""

from __future__ import annotations

import re

import pytest
from faulty import FaultyLab
from runs import running, until, wait_for

CALL = """
    def test_under_way(dut):
        dut.counter.call("count", "under-way", 6)
    def test_next(dut):
        dut.counter.call("count", "next", 0)
"""

FLASH = """
    import pytest
    @pytest.fixture
    def image(tmp_path):
        path = tmp_path / "image"
        path.write_bytes(b"2.0.0\\n")
        with path.open("r+b") as file:
            file.truncate(256 * 1024 * 1024)
        return path
    def test_under_way(dut, image):
        dut.counter.call("count", "under-way", 0)
        dut.storage.flash(image)
    def test_next(dut, image):
        dut.storage.flash(image)
        dut.counter.call("count", "next", 0)
"""


@pytest.mark.parametrize("away", ["1s", "4s"])
@pytest.mark.parametrize("suite", [CALL, FLASH], ids=["call", "flash"])
def test_router_away_for_a_moment(boards: FaultyLab, pytester: pytest.Pytester, suite: str, away: str) -> None:
    """A router that is away for some seconds costs the call under way, and no more; nothing is sent twice."""
    pytester.makepyfile(suite)
    with running(pytester) as process:
        until(lambda: boards.calls == ["under-way"], timeout=30)
        boards.order(f"router for {away}")
        output = process.communicate(timeout=90)[0]
    assert process.returncode in (0, 8), output
    assert re.search("= (1 passed, 1 device error|2 passed) in", output)
    assert boards.calls == ["under-way", "next"]
    assert boards.leases() == []


def test_router_away_before_a_call(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call that begins while the router is away, and after the break was noticed, waits for the router."""
    pytester.makepyfile(
        """
        import time
        def test_it(dut, caplog):
            caplog.set_level("INFO", "jumpstarter.connection")
            print("HOLDING", flush=True)
            end = time.monotonic() + 30
            while "a connection to the exporter broke" not in caplog.text:
                assert time.monotonic() < end
                time.sleep(0.01)
            dut.counter.call("count", "once", 0)
        """
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        boards.order("router for 4s")
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert boards.calls == ["once"]


@pytest.mark.parametrize("shown", ["'no such host'", "127.0.0.1:1"])
def test_bad_endpoint(boards: FaultyLab, pytester: pytest.Pytester, shown: str) -> None:
    """A router that is not there, or whose address is none, is a device error that names it, not the exporter."""
    pytester.makepyfile("def test_it(dut): pass")
    boards.order(f"router-endpoint {shown}")
    try:
        result = pytester.runpytest_subprocess()
    finally:
        boards.order(f"router-endpoint {boards.endpoint}")
    assert result.ret == 8
    result.stdout.fnmatch_lines([f"*exporter board-1 is out of reach: the router {shown} cannot be reached: *"])
    assert boards.leases() == []

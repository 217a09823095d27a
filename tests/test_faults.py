"""Faults of the lab while a run goes on: nothing is blamed on the product, what can go on goes on, no lease stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from conftest import exporter_document
from faulty import FaultyLab, counting, faulty_lab, prepare
from runs import running, until, wait_for

RunningExporter = Callable[..., AbstractContextManager[None]]

STEP = """
import sys
def step(word):
    print(word, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def orphans(running_exporter: RunningExporter, pytester: pytest.Pytester) -> Iterator[FaultyLab]:
    """Return a lab that can be killed: its exporter is a real `jmp run` of somebody else's, and so survives it."""
    with faulty_lab(lambda _: exporter_document("guest-1", "kind: dut", None)) as (lab, folder):
        config = yaml.safe_load((folder / "config" / "exporters" / "guest-1.yaml").read_text())
        own = folder / "guest-1.yaml"  # the lab writes its own anew when it is started again
        own.write_text(yaml.safe_dump(config | {"export": yaml.safe_load(counting(str(folder / "calls")))}))
        with running_exporter(own, folder / "log", modules=Path(__file__).parent):
            until(lambda: lab.status("guest-1") == "AVAILABLE", timeout=60)
            prepare(pytester, lab)
            yield lab
            until(lambda: lab.leases() == [], timeout=60)


def test_controller_restarts_between_calls(orphans: FaultyLab, pytester: pytest.Pytester) -> None:
    """A lab controller that is killed and back within two seconds is not even noticed; the lease stays the same."""
    pytester.makepyfile(
        STEP
        + """
def test_over_it(dut):
    dut.counter.call("count", "before", 0)
    step("HOLDING")
    dut.counter.call("count", "after", 0)
def test_later(dut):
    dut.counter.call("count", "later", 0)
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        lease = orphans.lease()
        orphans.kill()
        orphans.start()
        assert orphans.lease().name == lease.name
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 0, output
    assert "2 passed" in output
    assert orphans.calls == ["before", "after", "later"]
    assert orphans.leases() == []


def test_controller_restarts_during_a_call(orphans: FaultyLab, pytester: pytest.Pytester) -> None:
    """The call under way while the lab controller restarts is a device error; the run goes on, on the same lease."""
    pytester.makepyfile(
        STEP
        + """
def test_over_it(dut):
    print("HOLDING", flush=True)
    dut.counter.call("count", "during", 3)
def test_later(dut):
    step("LATER")
    dut.counter.call("count", "later", 0)
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        until(lambda: orphans.calls == ["during"], timeout=20)
        lease = orphans.lease()
        orphans.kill()
        orphans.start()
        wait_for(process.stdout, "LATER")
        assert orphans.lease().name == lease.name
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "1 passed, 1 device error in" in output
    assert "device error on guest-1 (lease pj-" in output
    assert "the connection to exporter guest-1 broke: " in output
    assert orphans.calls == ["during", "later"]
    assert orphans.leases() == []


def test_controller_away_for_long(orphans: FaultyLab, pytester: pytest.Pytester) -> None:
    """A lab controller that is away for so long that exporters give up is a device error, never a test failure."""
    pytester.makepyfile(
        STEP
        + """
def test_over_it(dut):
    step("HOLDING")
    dut.counter.call("count", "after", 0)
def test_later(dut):
    dut.counter.call("count", "later", 0)
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        orphans.kill()
        with pytest.raises(subprocess.TimeoutExpired):  # the run goes on
            process.wait(10)
        orphans.start()
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "= 2 device error in" in output
    assert "device error on guest-1 (lease pj-" in output
    assert orphans.calls == []
    assert orphans.leases() == []


def test_controller_away_during_calls(orphans: FaultyLab, pytester: pytest.Pytester) -> None:
    """While the lab controller is away nothing can be dialled: a device error that says so, and the lease is kept."""
    pytester.makepyfile(
        STEP
        + """
def test_over_it(dut):
    print("HOLDING", flush=True)
    dut.counter.call("count", "during", 3)
def test_later(dut):
    step("LATER")
    dut.counter.call("count", "later", 0)
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        until(lambda: orphans.calls == ["during"], timeout=20)
        orphans.kill()
        wait_for(process.stdout, "LATER")
        orphans.start()
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "the lab controller does not tell why: " in output
    assert re.fullmatch(r"=+ (1 passed, 1|2) device error in .* =+", output.rstrip().splitlines()[-1])
    assert orphans.calls.count("later") <= 1
    assert orphans.leases() == []


def wait_for_call(lab: FaultyLab, name: str) -> None:
    """Wait until the driver has begun with a call."""
    until(lambda: name in lab.calls, timeout=30)


def test_router_cut_during_calls(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call whose connection is cut is a device error; each next one goes through, and none is ever sent twice."""
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("number", range(10))
        def test_cut(dut, number):
            dut.counter.call("count", f"cut-{number}", 2)
        def test_whole(dut):
            dut.counter.call("count", "whole", 0)
        """
    )
    cuts = [f"cut-{number}" for number in range(10)]
    with running(pytester) as process:
        for name in cuts:
            wait_for_call(boards, name)
            assert int(boards.order("cut")) > 0
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "= 1 passed, 10 device error in" in output
    reasons = ("the router connection was cut", "the router ended the stream during a write")
    assert sum(output.count(f"the connection to exporter board-1 broke: {reason}") for reason in reasons) == 10
    assert boards.calls == [*cuts, "whole"]
    assert boards.leases() == []


def test_router_cut_while_flashing(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A flash whose connection is cut is a device error, ten times over; the next one flashes the whole image."""
    pytester.makepyfile(
        """
        import threading
        import pytest
        @pytest.fixture
        def image(tmp_path):
            path = tmp_path / "image"
            path.write_bytes(b"2.0.0\\n")
            with path.open("r+b") as file:
                file.truncate(64 * 1024 * 1024)
            return path
        @pytest.mark.parametrize("number", range(10))
        def test_cut(dut, image, number):
            threading.Timer(number * 0.05, print, ["FLASHING"], {"flush": True}).start()
            dut.storage.flash(image)
        def test_whole(dut, image, console):
            dut.storage.flash(image)
            dut.power.cycle(wait=0)
            console.expect("Storage: 67108864 bytes")
            console.expect("Booting image 2.0.0")
        """
    )
    with running(pytester) as process:
        for _ in range(10):
            wait_for(process.stdout, "FLASHING")
            until(lambda: int(boards.order("cut")) > 0, timeout=20)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert not re.search(r"\d failed", output)
    assert output.count("DEVICE ERROR test_") + int(output.rpartition(" passed")[0].split()[-1]) == 11
    assert boards.leases() == []


def test_console_after_a_cut(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A console that was cut is a device error for whoever still reads it, and is opened anew for the next test."""
    pytester.makepyfile(
        STEP
        + """
import pytest
@pytest.fixture(scope="module")
def old(dut):
    return dut.console()
def test_before(dut, old):
    dut.power.cycle(wait=0)
    old.expect("login: ")
    step("HOLDING")
    old.expect("never")
def test_still(dut, old):
    old.expect("never")
def test_after(dut, console):
    console.sendline("root")
    console.expect("# ")
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        assert int(boards.order("cut")) > 0
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "= 1 passed, 2 device error in" in output
    assert boards.leases() == []


def test_console_opened_before_the_connection_broke(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A console that was opened before a break and ends later is a device error, however long ago that was."""
    pytester.makepyfile(
        STEP
        + """
import contextlib, time
import pexpect
from pytest_jumpstarter.device.call_window import mark_call
def test_it(dut):
    opened = time.monotonic()
    step("HOLDING")
    with contextlib.suppress(Exception):
        dut.power.on()   # by now the break is known
    seen_late = pexpect.EOF("as a console ends that was opened on a connection that is gone")
    mark_call(seen_late, opened)
    raise seen_late
"""
    )
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        assert int(boards.order("cut")) > 0
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "broke: the router connection was cut" in output


def test_exporter_killed_during_a_call(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call during which the exporter dies is a device error; one that started again has lost the device."""
    pytester.makepyfile(
        """
        def test_during(dut):
            dut.counter.call("count", "during", 20)
        def test_later(dut):
            dut.counter.call("count", "later", 0)
        """
    )
    with running(pytester) as process:
        until(lambda: boards.calls == ["during"], timeout=30)
        os.kill(boards.exporter_process("board-1"), signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "= 2 device error in" in output
    assert boards.calls == ["during"]
    assert boards.leases() == []


def test_exporter_killed_after_the_last_call(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A board that is lost before a test ends makes it a device error, although its last call went well."""
    pytester.makepyfile(STEP + "\ndef test_it(dut):\n    dut.counter.call('count', 'it', 0)\n    step('HOLDING')\n")

    def is_restarted() -> bool:
        try:
            return boards.exporter_process("board-1") != killed
        except AssertionError:  # none serves it now
            return False

    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        killed = boards.exporter_process("board-1")
        os.kill(killed, signal.SIGKILL)
        until(is_restarted, timeout=30)
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 8, output
    assert "device error on board-1 " in output
    assert "the test itself ended with: passed" in output
    assert boards.calls == ["it"]
    assert boards.leases() == []


def test_token_expires_and_is_replaced(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A token that runs out and is replaced in the client config is taken from there: for dialling, and the release."""
    pytester.makepyfile(STEP + "\ndef test_it(dut):\n    step('HOLDING')\n    dut.counter.call('count', 'it', 0)\n")
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        boards.order("cut")  # so that the call has to dial
        boards.order("expire")
        boards.give_token()
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 0, output
    assert boards.calls == ["it"]
    assert boards.leases() == []


def test_token_expires(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A token that runs out and is not replaced ends in a device error that names it; the lease ends by itself."""
    pytester.makepyfile("def test_it(dut, console):\n    print('HOLDING', flush=True)\n    console.expect('never', 60)")
    with running(pytester, "--jmp-ttl=5s") as process:
        wait_for(process.stdout, "HOLDING")
        boards.order("expire")
        output = process.communicate(timeout=60)[0]
        boards.give_token()
    assert process.returncode == 8, output
    assert "device error on board-1 (lease pj-" in output
    assert "the token has been expired for " in output
    assert "jmp login" in output
    until(lambda: boards.leases() == [], timeout=20)


@pytest.mark.parametrize("seconds", [600, -600], ids=["ahead", "behind"])
def test_clocks_apart(boards: FaultyLab, pytester: pytest.Pytester, seconds: int) -> None:
    """A lab controller whose clock is ten minutes off keeps a lease exactly as long as it is extended."""
    pytester.makepyfile(
        """
        import time
        def test_it(dut, jumpstarter):
            time.sleep(7)   # longer than the time to live
            lease = jumpstarter.client.get_lease(dut.lease.name)
            assert lease.is_ready
            assert 5 < lease.duration < 20
            dut.counter.call("count", "it", 0)
        """
    )
    boards.order(f"clock {seconds}")
    try:
        with running(pytester, "--jmp-ttl=5s") as process:
            output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        assert boards.leases() == []
    finally:
        boards.order("clock 0")

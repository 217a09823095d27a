"""pytest-xdist: a board for each worker, one lab for all, and nothing left behind by a worker that is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import exporter_document
from runs import running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.lab import Lab

ActiveLeases = Callable[[], list[Lease]]

MOCK = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
RACK = "---\n".join(
    exporter_document(f"rack-{number}", f"board: rack, half: h{number % 2}", MOCK) for number in range(4)
)


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve a lab of four boards that are alike."""
    file = tmp_path_factory.mktemp("rack") / "lab.yaml"
    file.write_text(RACK)
    with Lab([file]) as lab:
        yield lab


@pytest.fixture
def rack_client(rack: Lab) -> Iterator[Client]:
    """Return a client of the rack, to look at it from outside."""
    with Client.from_config(rack.client_config) as client:
        yield client


@pytest.fixture
def racked(pytester: pytest.Pytester, rack: Lab, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder whose ini file points at the rack; its tests write down what they have by `note`."""
    pytester.makeini(f"[pytest]\njmp_client = {rack.client_config}\njmp_selector = board=rack\njmp_wait = 60s\n")
    monkeypatch.setenv("NOTES", str(pytester.path / "notes"))
    pytester.makeconftest(
        """
        import os, pytest
        @pytest.fixture
        def note(dut):
            def write(*more):
                with open(os.environ["NOTES"], "a") as file:
                    print(dut.exporter.name, dut.lease.name, *more, file=file, flush=True)
            return write
        """
    )
    return pytester


def notes(suite: pytest.Pytester) -> list[list[str]]:
    """Return what the tests wrote down, a list of words for each."""
    file = suite.path / "notes"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_one_lab(pytester: pytest.Pytester) -> None:
    """The controller process starts one lab for all workers, whose leases have one run id, and stops it at the end."""
    pytester.path.joinpath("lab.yaml").write_text(RACK)
    pytester.makepyfile(
        """
        import os, pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(dut, jumpstarter, number):
            with open("notes", "a") as file:
                print(jumpstarter.client.endpoint, dut.exporter.name, *dut.lease.name.split("-"), file=file)
        """
    )
    result = pytester.runpytest("-n2", "--jmp-lab=lab.yaml", "--jmp-selector=board=rack")
    result.assert_outcomes(passed=4)
    endpoints, boards, _, runs, workers, _ = map(set, zip(*notes(pytester), strict=True))
    assert len(endpoints) == len(runs) == 1
    assert len(boards) == len(workers) == 2


def test_lab_that_does_not_start(pytester: pytest.Pytester) -> None:
    """Where the lab does not start every test says why; a suite without devices never asks for it."""
    pytester.makepyfile("def test_a(): pass\ndef test_b(): pass")
    pytester.runpytest("-n2", "--jmp-lab=nowhere.yaml").assert_outcomes(passed=2)
    pytester.makepyfile("def test_a(dut): pass\ndef test_b(dut): pass")
    result = pytester.runpytest("-n2", "--jmp-lab=nowhere.yaml", "--jmp-selector=board=rack")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*lab file *nowhere.yaml does not exist (from --jmp-lab)*"])


def test_lost_worker(racked: pytest.Pytester, rack_client: Client) -> None:
    """A worker killed in a test: its board is with the worker that replaces it within 5 s; the counts are right."""
    racked.makepyfile(
        """
        import os, signal, time
        def test_a(note): note(time.time())
        def test_b(note):
            note(time.time())
            os.kill(os.getpid(), signal.SIGKILL)
        def test_c(note): note(time.time())
        def test_d(note): note(time.time())
        """
    )
    result = racked.runpytest("-n1", "--jmp-exporter=rack-3")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*test_b*"])
    (board, lost, _), (_, _, killed), (other, leased, again), _ = notes(racked)
    assert board == other == "rack-3"
    assert "-gw0-" in lost
    assert "-gw1-" in leased
    assert float(again) - float(killed) < 10.0  # 5 s on a machine with nothing else to do
    assert list(rack_client.list_leases()) == []


def test_worker_lost_in_the_queue(racked: pytest.Pytester, rack_client: Client) -> None:
    """What a worker is still waiting for when it is lost is withdrawn; the wait is shown, with the worker's name."""
    racked.makepyfile("def test_it(dut): pass")
    other = rack_client.create_lease(lease_id="other-in-queue", exporter_name="rack-0", duration=120)
    with running(racked, "-n1", "--jmp-exporter=rack-0", "--max-worker-restart=0") as process:
        wait_for(process.stdout, "jumpstarter: gw0: waiting")
        pending = [lease.name for lease in rack_client.list_leases() if lease.name != other.name]
        assert len(pending) == 1
        os.kill(worker_of(process.pid), signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
    assert "worker 'gw0' crashed" in output
    assert [lease.name for lease in rack_client.list_leases()] == [other.name]
    rack_client.delete_lease(other.name)


def worker_of(pid: int) -> int:
    """Return the one pytest process that a process started."""
    found = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if f"\nPPid:\t{pid}\n" in (folder / "status").read_text()
    ]
    assert len(found) == 1
    return found[0]


HOLD = """
    import time, pytest
    @pytest.mark.parametrize("number", range(4))
    def test_it(note, number):
        note()
        time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_signal(racked: pytest.Pytester, rack_client: Client, number: signal.Signals, code: int) -> None:
    """A signal to the controller process alone gives back the boards of all workers, and ends the run soon."""
    racked.makepyfile(HOLD)
    with running(racked, "-n2") as process:
        until(lambda: len(notes(racked)) == 2, timeout=60)
        process.send_signal(number)
        output = process.communicate(timeout=40)[0]
        assert process.returncode == code, output
    assert list(rack_client.list_leases()) == []
    assert "INTERNALERROR" not in output


def test_worker_that_does_not_listen(racked: pytest.Pytester, rack_client: Client) -> None:
    """After a signal the controller process gives back the board of a worker that is stopped, too."""
    racked.makepyfile(
        "import os, signal\n"
        "def test_it(note):\n    note()\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )  # fmt: skip
    with running(racked, "-n1") as process:
        until(lambda: len(notes(racked)) == 1, timeout=60)
        process.send_signal(signal.SIGTERM)
        until(lambda: list(rack_client.list_leases()) == [], timeout=10)
        process.communicate(timeout=60)


def test_controller_process_killed(racked: pytest.Pytester, rack_client: Client) -> None:
    """With the controller process gone the workers end by themselves, and give back what they have."""
    racked.makepyfile(HOLD)
    with running(racked, "-n2", "--jmp-ttl=20s") as process:
        until(lambda: len(notes(racked)) == 2, timeout=60)
        process.kill()
        process.wait(timeout=10)
        until(lambda: list(rack_client.list_leases()) == [], timeout=50)

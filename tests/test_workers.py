"""pytest-xdist: a board for each worker, one lab for all, and nothing left behind by a worker that is lost."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import exporter_document
from runs import running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.collection.auto_workers import number_of_workers
from pytest_jumpstarter.devices_of import check_sharing
from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.workers import NOTE
from pytest_jumpstarter.workers.channel import ControllerEnd

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
    result.stdout.no_fnmatch_line("*not released*")
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*test_b*"])
    (board, lost, _), (_, _, killed), (other, leased, _), _ = notes(racked)
    assert board == other == "rack-3"
    assert "-gw0-" in lost
    assert "-gw1-" in leased
    ended, taken = rack_client.get_lease(lost).effective_end_time, rack_client.get_lease(leased).effective_begin_time
    assert ended is not None
    assert taken is not None
    assert ended.timestamp() - float(killed) < 10.0  # 5 s on a machine with nothing else to do
    assert taken >= ended
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
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end while we look
            if f"\nPPid:\t{pid}\n" in (folder / "status").read_text():
                found.append(int(folder.name))
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


def workers_of(result: pytest.RunResult) -> int:
    """Return how many workers a run had."""
    found = [re.search(r"(\d+) workers? \[", line) for line in result.outlines]
    return next(int(match[1]) for match in found if match)


TWO_ROLES = """
    from pytest_jumpstarter import device_fixture
    dut = device_fixture(selector="board=rack")
    gateway = device_fixture(selector="half=h1")
"""
KINDS = """
    from pytest_jumpstarter import device_fixture
    dut = device_fixture(selectors=["half=h1", "half=h0,!absent"])
"""


@pytest.mark.parametrize(
    ("conftest", "ini", "args", "number", "note"),
    [
        ("", "", ("--jmp-selector=board=rack",), 4, "dut 4"),
        ("", "jmp_each = half=h1", (), 2, "dut 2"),
        ("", "", ("--jmp-exporter=rack-2",), 1, "dut 1"),
        ("", "jmp_selector = board=absent", (), 1, "dut 0"),
        (TWO_ROLES, "", (), 2, "dut 4, gateway 2"),
        (KINDS, "", (), 4, "dut 4"),
        (KINDS, "", ("--jmp-selector=half=h0",), 2, "dut 2"),
    ],
    ids=["selector", "each", "exporter", "none free", "two roles", "kinds", "setting beats kinds"],
)
@pytest.mark.parametrize("source", ["lab file", "lab"])
def test_auto(
    pytester: pytest.Pytester,
    rack: Lab,
    source: str,
    conftest: str,
    ini: str,
    args: tuple[str, ...],
    number: int,
    note: str,
) -> None:
    """`-n auto` is the number of complete sets of devices that are free, and 1 at least."""
    pytester.path.joinpath("lab.yaml").write_text(RACK)
    where = f"jmp_client = {rack.client_config}" if source == "lab" else "jmp_lab = lab.yaml"
    pytester.makeini(f"[pytest]\n{where}\n{ini}\n")
    pytester.makeconftest(conftest)
    config = pytester.parseconfigure(*args)
    assert number_of_workers(config) == number
    assert config.stash[NOTE].endswith(f"; free devices: {note}")


ASKED = ((), ("--jmp-selector=board=rack",))


def test_auto_without_devices(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing says which devices are needed nothing of ours is at work, nor where xdist's own number is given."""
    pytester.makepyfile("def test_it(): pass")
    assert number_of_workers(pytester.parseconfig()) is None
    assert number_of_workers(pytester.parseconfig("--jmp-selector=board=rack")) is None  # and no lab at all
    args = ("--tx=2*popen", "--dist=load")
    configs = [pytester.parseconfigure(*args, *more) for more in ASKED]
    assert [each.pluginmanager.has_plugin("jumpstarter-workers") for each in configs] == [False, True]
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert workers_of(pytester.runpytest("-nauto", "--jmp-selector=board=rack", "--jmp-lab=nowhere.yaml")) == 2


def test_auto_with_devices_taken(racked: pytest.Pytester, rack_client: Client) -> None:
    """Boards that somebody else has do not count; the header tells; each worker has a board; there may be fewer."""
    other = rack_client.create_lease(lease_id="other-for-auto", exporter_name="rack-1", duration=120)
    until(lambda: rack_client.get_lease(other.name).is_ready, timeout=10)
    racked.makepyfile(
        """
        import pytest, time
        @pytest.mark.parametrize("number", range(12))
        def test_it(note, number):
            note()
            time.sleep(0.2)
        """
    )
    result = racked.runpytest("-nauto", "--maxprocesses=2")
    rack_client.delete_lease(other.name)
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["jumpstarter: -n auto is 3; free devices: dut 3"])
    assert workers_of(result) == 2
    boards = {board for board, _ in notes(racked)}
    assert len(boards) == 2
    assert "rack-1" not in boards


def test_auto_where_nobody_tells(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a lab controller that is away `-n auto` is 1, and says why; with a config that is wrong it is an error."""
    for name, value in {"ENDPOINT": "127.0.0.1:1", "NAMESPACE": "lab", "NAME": "me", "TOKEN": "x"}.items():
        monkeypatch.setenv(f"JMP_{name}", value)
    config = pytester.parseconfig("--jmp-selector=board=rack", "--jmp-wait=1s")
    assert number_of_workers(config) == 1
    assert "-n auto is 1, because the free exporters are unknown: " in config.stash[NOTE]
    pytester.makepyfile("def test_it(dut): pass")
    result = pytester.runpytest("-nauto", "--jmp-selector=board=rack", "--jmp-client=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: -n auto: *nowhere*"])


@pytest.mark.parametrize(
    ("environ", "args", "place"),
    [
        ({"JUMPSTARTER_HOST": "127.0.0.1:1"}, (), "the exporter of the jmp shell"),
        ({}, ("--jmp-direct=127.0.0.1:1",), "127.0.0.1:1 (--jmp-direct)"),
        ({"JMP_LEASE": "mine"}, (), "lease mine (JMP_LEASE)"),
        ({}, ("--jmp-lease=mine",), "lease mine (--jmp-lease)"),
    ],
    ids=["shell", "direct", "JMP_LEASE", "lease"],
)
def test_one_device(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    args: tuple[str, ...],
    place: str,
) -> None:
    """A device that is given is for one worker: `-n auto` is 1, and more are an error."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    config = pytester.parseconfig(*args)
    assert number_of_workers(config) == 1
    check_sharing(Settings.of(config), ["dut"], workers=1)
    check_sharing(Settings.of(config), [], workers=2)
    with pytest.raises(OptionError) as caught:
        check_sharing(Settings.of(config), ["dut"], workers=2)
    assert str(caught.value) == f"{place} is one device, but 2 workers request it: use no -n, or -n 1"


def test_usage_error_of_a_worker(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker refuses after collection is a usage error of the run; a suite without devices is not refused."""
    monkeypatch.setenv("JMP_LEASE", "mine")
    pytester.makepyfile("def test_a(dut): pass\ndef test_b(dut): pass")
    result = pytester.runpytest("-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: lease mine (JMP_LEASE) is one device, but 2 workers request it: *"])
    assert "INTERNALERROR" not in result.stdout.str()
    pytester.makepyfile("def test_a(): pass\ndef test_b(): pass")
    pytester.runpytest("-n2").assert_outcomes(passed=2)


def test_one_device_for_two_roles(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two roles on the one device of a shell, or on one lease, are a usage error."""
    pytester.makeconftest(TWO_ROLES)
    pytester.makepyfile("def test_a(dut): pass\ndef test_b(gateway): pass")
    same = pytester.runpytest("--jmp-lease=mine", "--jmp-lease=gateway:mine")
    same.stderr.fnmatch_lines(["ERROR: lease mine (--jmp-lease) is one device, but the tests request *: dut, gateway"])
    monkeypatch.setenv("JUMPSTARTER_HOST", "127.0.0.1:1")
    result = pytester.runpytest()
    assert (same.ret, result.ret) == (4, 4)
    result.stderr.fnmatch_lines(["ERROR: the exporter of the jmp shell is one device, but the tests request *"])


SHARED = """
    import pytest, time

    @pytest.mark.xdist_group("first")
    class TestFirst:
        @pytest.mark.parametrize("number", range(4))
        def test_it(self, note, number):
            began = time.time()
            time.sleep(0.05)
            note(began, time.time())

    @pytest.mark.xdist_group("second")
    class TestSecond(TestFirst):
        pass

    class TestThird(TestFirst):
        pass
"""


@pytest.mark.parametrize("dist", ["load", "loadscope", "loadgroup", "worksteal", "each"])
def test_more_workers_than_boards(racked: pytest.Pytester, rack_client: Client, dist: str) -> None:
    """However tests are shared out, three workers on one board come to an end, each with the board to itself."""
    racked.makepyfile(SHARED)
    result = racked.runpytest("-n3", f"--dist={dist}", "--jmp-exporter=rack-2")
    result.assert_outcomes(passed=36 if dist == "each" else 12)
    spans: dict[str, list[float]] = {}
    for _, lease, began, ended in notes(racked):
        spans.setdefault(lease, []).extend([float(began), float(ended)])
    assert len(spans) == 3
    ordered = sorted((min(span), max(span)) for span in spans.values())
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(ordered))
    assert list(rack_client.list_leases()) == []


def test_nobody_starves(racked: pytest.Pytester, rack_client: Client) -> None:
    """A worker whose turn would not come within `--jmp-wait` is let go first, whatever the scope of fixtures."""
    racked.makepyfile(
        """
        import pytest, time
        @pytest.fixture(scope="session")
        def booted(dut): return dut.exporter.name
        @pytest.mark.parametrize("number", range(24))
        def test_it(booted, note, number):
            note(time.time())
            time.sleep(0.5)
        """
    )
    result = racked.runpytest("-n2", "--dist=load", "--jmp-exporter=rack-1", "--jmp-wait=8s")
    result.assert_outcomes(passed=24)
    leases = [lease for _, lease, _ in notes(racked)]
    assert len(set(leases)) > 2  # one of the two leased again
    assert list(rack_client.list_leases()) == []


def test_ended_by_a_failure_without_a_terminal(racked: pytest.Pytester, rack_client: Client) -> None:
    """`-x` ends the run of all workers, whose boards go back, also where nobody shows anything."""
    racked.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("number", range(20))
        def test_it(note, number):
            note()
            assert number < 2
        """
    )
    result = racked.runpytest("-n2", "-x", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert 3 <= len(notes(racked)) < 20
    assert list(rack_client.list_leases()) == []


def test_the_channel_ends_without_its_folder() -> None:
    """Where something has cleared the folder for temporary files meanwhile, the run still comes to its end."""
    controller_end = ControllerEnd(lambda _: {})
    shutil.rmtree(Path(controller_end.address).parent)
    closing = threading.Thread(target=controller_end.close, daemon=True)
    closing.start()
    closing.join(4.0)
    assert not closing.is_alive()

"""A test whose board was lost for good does not pass, whatever it made of the exception that told it so."""

from __future__ import annotations

import json
from itertools import product

import pytest
from runs import part

from .inner import DEVICE_ERROR, EXIT_CODE, OTHER_ENDS, Bench, Seen, assert_device_error
from .swallows import ENDING, HEAD, MORE_PASSING, PASSING, QUOTING, id_of, suite

Case = tuple[str, str]
"""What stands around, and the way in which the loss is swallowed."""

SUBTESTS = ["subtests"] if pytest.version_tuple >= (9, 0) else []
AROUND = ["assertion", "xfail", "strict", "xfail_raises", *SUBTESTS, "coroutine", "unittest"]
CASES: list[Case] = [
    *product(["plain"], [*PASSING, *MORE_PASSING, *ENDING]),
    *part(AROUND, PASSING),
    *product(
        ["any_error", "coroutine", "expected_failure", "unittest", "unittest_subtests", "xfail", *SUBTESTS], ["not"]
    ),
    *product(["any_error"], ["another error", "fail", "skip"]),
    *product(["unittest", "xfail", *SUBTESTS], ["skip"]),
    *product(["assertion", "xfail"], ["killed"]),
    *product(["marked_late", "expected_failure"], ["except", "poll loop"]),
]


@pytest.fixture(scope="module")
def seen(bench: Bench) -> Seen:
    """Run all cases, each on a board of its own."""
    return bench.run(suite(CASES), "--jmp-scope=function", "--jmp-ttl=6s", plugins=["anyio"])


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_is_a_device_error(seen: Seen, case: Case) -> None:
    """Passed, skipped, expected to fail or failed by an assertion, in each case it is a device error."""
    frame, way = case
    test = id_of(frame, way)
    assert_device_error(seen, test)
    if (frame in QUOTING and way not in ENDING) or way in ("fail", "another error", "exit"):
        assert "QUOTED" in seen.words_of(test)


def test_exit_code(seen: Seen) -> None:
    """Nothing else failed, so the exit code says that the lab did."""
    assert seen.code == EXIT_CODE, seen.last
    assert not seen.counts.keys() & OTHER_ENDS, seen.last
    assert seen.left == []


PHASES = """
def met(dut):
    lose(dut)
    with contextlib.suppress(Exception):
        touch(dut)

@pytest.fixture
def met_in_setup(dut):
    met(dut)

@pytest.fixture
def met_in_teardown(dut):
    yield
    met(dut)

@pytest.fixture
def fails_after_it_in_teardown(dut):
    yield
    met(dut)
    assert dut is None, "QUOTED"

@pytest.fixture
def skips_in_teardown(dut):
    yield
    met(dut)
    pytest.skip("QUOTED")

@pytest.fixture
def switches_off(dut):
    yield
    dut.power.off()

@pytest.fixture
def finalized(request, dut):
    request.addfinalizer(lambda: met(dut))

def test_setup(met_in_setup): pass
def test_teardown(met_in_teardown): pass
def test_teardown_fails(fails_after_it_in_teardown): pass
def test_teardown_skips(skips_in_teardown): pass
def test_finalizer(finalized): pass

def test_once(dut, switches_off):
    met(dut)

def test_once_after_an_assertion(dut, switches_off):
    met(dut)
    assert dut is None, "QUOTED"

@pytest.mark.xfail
def test_setup_of_an_expected_failure(met_in_setup): pass

@pytest.mark.xfail
def test_teardown_of_an_expected_failure(met_in_teardown): assert 0

class TestMethods:
    @pytest.fixture(autouse=True)
    def _board(self, dut):
        self.dut = dut
    def test_of_a_class(self): pass
    def teardown_method(self):
        met(self.dut)

class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _board(self, dut):
        self.dut = dut
    def test_cleanup(self):
        self.addCleanup(met, self.dut)
"""
IN_PHASES = {
    "test_setup": "setup",
    "test_teardown": "teardown",
    "test_teardown_fails": "teardown",
    "test_teardown_skips": "teardown",
    "test_finalizer": "teardown",
    "test_once": "call",
    "test_once_after_an_assertion": "call",
    "test_setup_of_an_expected_failure": "setup",
    "test_teardown_of_an_expected_failure": "teardown",
    "TestMethods::test_of_a_class": "teardown",
    "TestUnit::test_cleanup": "call",
}


@pytest.fixture(scope="module")
def phases(bench: Bench) -> Seen:
    """Run tests that swallow a loss in each phase."""
    return bench.run({"test_it.py": HEAD + PHASES}, "--jmp-scope=function")


@pytest.mark.parametrize("test", IN_PHASES)
def test_each_phase(phases: Seen, test: str) -> None:
    """A loss that a fixture or a finalizer swallows is judged in its phase, once for each test."""
    record = phases.record(f"test_it.py::{test}")
    assert record["outcome"] == DEVICE_ERROR
    assert f"DEVICE ERROR test_it.py::{test} ({IN_PHASES[test]})\n" in phases.output
    assert phases.output.count(f"DEVICE ERROR test_it.py::{test} (") == 1
    if test in ("test_teardown_fails", "test_once_after_an_assertion"):
        assert "QUOTED" in phases.words_of(f"test_it.py::{test}")


def test_exit_code_of_phases(phases: Seen) -> None:
    """What fails in a teardown after the loss is no error of its own."""
    assert phases.code == EXIT_CODE, phases.last
    assert phases.counts[DEVICE_ERROR] == len(IN_PHASES)
    assert phases.counts.keys() <= {DEVICE_ERROR, "passed", "xfailed"}, phases.last


UNTOUCHED = """
def test_sleeps(dut):
    sleep_through(dut)

def test_fails_after_it(dut):
    sleep_through(dut)
    assert dut is None, "QUOTED"

@pytest.mark.xfail
def test_expected_failure(dut):
    sleep_through(dut)
    assert dut is None, "QUOTED"

def test_skips_after_it(dut):
    sleep_through(dut)
    pytest.skip("QUOTED")

@pytest.fixture
def slow(dut):
    yield
    sleep_through(dut)

def test_slow_teardown(slow): pass
"""


def test_loss_that_no_call_met(bench: Bench) -> None:
    """A phase that is longer than the watch's interval ends with a look, so what it never touched counts as well."""
    seen = bench.run({"test_it.py": HEAD + UNTOUCHED}, "--jmp-scope=function", "--jmp-ttl=6s")
    assert set(seen.outcomes().values()) == {DEVICE_ERROR}, seen.outcomes()
    assert len(seen.outcomes()) == 5
    assert seen.code == EXIT_CODE
    for test in ("test_fails_after_it", "test_expected_failure"):
        assert "QUOTED" in seen.words_of(f"test_it.py::{test}")


def test_later_tests_on_the_same_board(bench: Bench) -> None:
    """A session's board that a test lost and said nothing of is lost for later tests too, and for no others."""
    tests = """
def test_swallows(dut):
    lose(dut)
    with contextlib.suppress(Exception):
        touch(dut)
def test_without(): pass
def test_later(dut):
    with contextlib.suppress(Exception):
        dut.power.on()
def test_skipped(dut):
    pytest.skip("no board here")
"""
    seen = bench.run({"test_it.py": HEAD + tests})
    assert list(seen.outcomes().values()) == [DEVICE_ERROR, "passed", DEVICE_ERROR, DEVICE_ERROR]
    assert seen.code == EXIT_CODE


ONCE = """
def test_passes(dut):
    with contextlib.suppress(Exception):
        lose_once(dut)

@pytest.mark.xfail
def test_expected_failure(dut):
    with contextlib.suppress(Exception):
        lose_once(dut)
    assert dut is None

def test_skips(dut):
    with contextlib.suppress(Exception):
        lose_once(dut)
    pytest.skip("no need of it")

def test_fails(dut):
    with contextlib.suppress(Exception):
        lose_once(dut)
    assert dut is None
"""


@pytest.mark.parametrize("args", [(), ("-n1",)], ids=["here", "xdist"])
def test_swallowed_loss_is_retried(bench: Bench, args: tuple[str, ...]) -> None:
    """With `--jmp-retries` the test runs again on another board, and there it ends as it will."""
    seen = bench.run({"test_it.py": HEAD + ONCE}, "--jmp-retries=1", *args, plugins=["xdist"])
    ends = {
        "test_passes": "passed",
        "test_expected_failure": "xfailed",
        "test_skips": "skipped",
        "test_fails": "failed",
    }
    for test, end in ends.items():
        first, second = seen.records(f"test_it.py::{test}")
        assert (first["outcome"], second["outcome"]) == ("rerun", end)
        assert first["devices"][0]["exporter"] != second["devices"][0]["exporter"]
    assert seen.code == pytest.ExitCode.TESTS_FAILED
    assert DEVICE_ERROR not in seen.counts


def test_stops_at_the_first_failure(bench: Bench) -> None:
    """A test that was expected to fail and lost its board is a failure for `-x` too."""
    tests = """
@pytest.mark.xfail
def test_lost(dut):
    lose(dut)
    touch(dut)
def test_never(): pass
"""
    seen = bench.run({"test_it.py": HEAD + tests}, "-x")
    assert seen.outcomes() == {"test_it.py::test_lost": DEVICE_ERROR}
    assert seen.code == EXIT_CODE


COUNTING = """
    import json, os, threading
    import pytest
    from pytest_jumpstarter.client.v1 import Client

    calls = []

    class Counted(Client):
        def send(self, request):
            if threading.current_thread().name != "jumpstarter-keeper":
                calls.append([os.environ.get("PYTEST_CURRENT_TEST", ""), request.method])
            return super().send(request)

    def pytest_jumpstarter_client():
        return Counted.from_config(os.environ["TRUTH_LAB"])

    def pytest_unconfigure(config):
        if calls:
            config.rootpath.joinpath("calls.json").write_text(json.dumps(calls))
"""


def test_a_look_costs_short_tests_nothing(bench: Bench) -> None:
    """No call is made for a test shorter than the watch's interval; for a longer one at most one look is taken."""
    tests = """
@pytest.mark.parametrize("number", range(50))
def test_short(dut, number):
    dut.power.on()
    if number % 5 == 1:
        pytest.skip("no need of it")
    if number % 5 == 2:
        assert number < 0
def test_long(dut):
    dut.power.on()
    time.sleep(2.5)
def test_last(dut): pass
"""
    seen = bench.run({"conftest.py": COUNTING, "test_it.py": HEAD + tests}, "--jmp-ttl=6s", "--jmp-scope=session")
    calls = [(test.rpartition(" ")[0], method) for test, method in json.loads((seen.folder / "calls.json").read_text())]
    assert "10 failed, 32 passed, 10 skipped" in seen.last
    assert [call for call in calls if "test_short" in call[0] and "[0]" not in call[0]] == []
    looks = [method for test, method in calls if test.endswith("test_long")]
    assert sorted(looks) in ([], ["GetExporter", "GetLease"])

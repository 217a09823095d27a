"""pytest's own features keep working with devices, each in a run against the shared lab."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pexpect
import pytest

from pytest_jumpstarter.client.v1 import Client, Lease

# A device test that fails, one that passes, and one without a device; which fails can be changed by a file.
SUITE = """
    import pathlib
    import pytest

    @pytest.fixture(scope="module")
    def booted(dut):
        print("BOOTED")
        dut.power.on()
        yield dut
        dut.power.off()
        print("OFF")

    def test_none():
        pass

    class TestDevice:
        @pytest.fixture(scope="class")
        @classmethod
        def powered(cls, booted):
            print("POWERED")
            return booted

        def test_first(self, powered):
            powered.power.on()

        def test_second(self, powered):
            assert pathlib.Path("mended").exists()

    def test_third(booted):
        booted.power.on()
"""


@pytest.fixture
def devices(
    suite: pytest.Pytester, client: Client, active_leases: Callable[[], list[Lease]]
) -> Iterator[pytest.Pytester]:
    """Return a folder with the suite; afterwards no lease is left."""
    suite.makepyfile(SUITE)
    suite.makeconftest("def pytest_jumpstarter_lease_acquired(lease): print('ACQUIRED', lease.exporter)")
    yield suite
    assert active_leases() == []


def ran(result: pytest.RunResult) -> list[str]:
    """Return the names of the tests that ran, in their order, each with its outcome; `-s` puts words in between."""
    return [
        f"{name} {outcome}"
        for name, outcome in re.findall(
            r"^test_\w+\.py::(?:TestDevice::)?test_(\w+)[^:]*?(PASSED|FAILED|SKIPPED|ERROR)", str(result.stdout), re.M
        )
    ]


def acquired(result: pytest.RunResult) -> int:
    """Return how many leases there were."""
    return result.stdout.str().count("ACQUIRED board-1")


def test_last_failed_failed_first_and_stepwise(devices: pytest.Pytester) -> None:
    """`--lf`, `--ff` and `--stepwise` choose and order the tests; a device is leased once in each run, if at all."""
    result = devices.runpytest("-sv")
    assert ran(result) == ["none PASSED", "first PASSED", "second FAILED", "third PASSED"]
    assert (acquired(result), result.ret) == (1, 1)

    result = devices.runpytest("-sv", "--lf")
    assert (ran(result), acquired(result)) == (["second FAILED"], 1)

    result = devices.runpytest("-sv", "--ff")
    assert ran(result)[0] == "second FAILED"
    assert sorted(ran(result)[1:]) == ["first PASSED", "none PASSED", "third PASSED"]
    assert acquired(result) == 1

    result = devices.runpytest("-sv", "--stepwise")
    assert (ran(result), acquired(result)) == (["none PASSED", "first PASSED", "second FAILED"], 1)
    (devices.path / "mended").touch()
    result = devices.runpytest("-sv", "--stepwise")
    assert (ran(result), acquired(result)) == (["second PASSED", "third PASSED"], 1)


@pytest.mark.parametrize(
    ("args", "expected", "leases"),
    [
        (["-x"], ["none PASSED", "first PASSED", "second FAILED"], 1),
        (["--maxfail=2"], ["none PASSED", "first PASSED", "second FAILED", "third PASSED"], 1),
        (["-k", "third"], ["third PASSED"], 1),
        (["-k", "none"], ["none PASSED"], 0),
        (["--deselect", "test_it.py::TestDevice"], ["none PASSED", "third PASSED"], 1),
    ],
    ids=["-x", "--maxfail", "-k", "-k without devices", "--deselect"],
)
def test_fewer_tests(devices: pytest.Pytester, args: list[str], expected: list[str], leases: int) -> None:
    """Options that end a run early or leave tests out; the board goes back, and is not leased for nothing."""
    devices.makepyfile(test_it=SUITE)
    result = devices.runpytest("-sv", "test_it.py", *args)
    assert (ran(result), acquired(result)) == (expected, leases)


def test_setup_plan_and_show(devices: pytest.Pytester, client: Client) -> None:
    """`--setup-plan` leases nothing and shows what `--setup-show` does, but for the run, which `dut` gets by name."""
    (devices.path / "mended").touch()

    def leases() -> int:
        return sum(1 for _ in client.list_leases(only_active=False))

    before = leases()
    plan = devices.runpytest("--setup-plan")
    assert (leases(), plan.ret) == (before, 0)
    show = devices.runpytest("--setup-show")
    show.assert_outcomes(passed=4)
    assert leases() == before + 1
    steps = [re.findall(r"^ *((?:SETUP|TEARDOWN) +[SMCF] \w+)", str(result.stdout), re.M) for result in (plan, show)]
    assert steps[0] == [step for step in steps[1] if "jumpstarter" not in step]
    assert steps[0][:3] == ["SETUP    S dut", "SETUP    M booted", "SETUP    C powered"]


def test_class_and_module_fixtures_run_once(devices: pytest.Pytester) -> None:
    """Fixtures over the device keep their scopes, and are torn down while the device is still there."""
    (devices.path / "mended").touch()
    result = devices.runpytest("-s")
    result.assert_outcomes(passed=4)
    assert [result.stdout.str().count(word) for word in ("BOOTED", "POWERED", "OFF")] == [1, 1, 1]


def test_unittest(devices: pytest.Pytester) -> None:
    """A `unittest.TestCase` has its device by `usefixtures`, and by an autouse fixture of its class; it is recorded."""
    devices.makepyfile(
        """
        import unittest
        import pytest

        @pytest.fixture
        def device(request, dut):
            request.instance.device = dut

        @pytest.mark.usefixtures("dut")
        class TestByMark(unittest.TestCase):
            def test_it(self): self.assertTrue(True)

        @pytest.mark.usefixtures("device")
        class TestBySelf(unittest.TestCase):
            def setUp(self): self.device.power.on()
            def test_it(self): self.device.power.off()
        """
    )
    result = devices.runpytest("-s")
    result.assert_outcomes(passed=2)
    assert acquired(result) == 1
    result.stdout.re_match_lines([r"board-1 +2 +0 "])  # in the table of boards


def test_switched_off(devices: pytest.Pytester) -> None:
    """`-p no:jumpstarter` leaves no option, no ini value and no fixture of ours, and nothing that fails for that."""
    devices.makeini("[pytest]\n")
    devices.makeconftest("")
    result = devices.runpytest("-p", "no:jumpstarter")
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines(["*fixture 'dut' not found*"])
    assert devices.runpytest("-p", "no:jumpstarter", "--jmp-check").ret == pytest.ExitCode.USAGE_ERROR


def test_debugger(devices: pytest.Pytester) -> None:
    """At the prompt of `--pdb`, after a failure, the device is still there to be driven."""
    child = devices.spawn_pytest("--pdb -k second", expect_timeout=60)
    child.expect(r"\(Pdb\) ")
    child.sendline("powered.power.on(), powered.exporter.name")
    child.expect(r"\(None, 'board-1'\)")
    child.expect(r"\(Pdb\) ")
    child.sendline("q")
    child.expect("Quitting debugger")
    child.expect("1 failed")
    child.expect(pexpect.EOF)

"""`--jmp-retries`: a test that a device error ended runs again, on another exporter, and nothing else does."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from conftest import exporter_document

from pytest_jumpstarter.client.v1 import Lease

ActiveLeases = Callable[[], list[Lease]]

# Of the suites here, one test may rely on the one before: pytest-randomly, where it is installed, would shuffle them.
RETRY = ("--jmp-selector=board=virtual", "--jmp-retries=1", "--jmp-wait=20s", "-p", "no:randomly")

# Each test that uses it loses its first device, in the real way: somebody deletes the lease.
CONFTEST = """
    import pytest

    def lose(dut, jumpstarter):
        jumpstarter.client.delete_lease(dut.lease.name)
        while True:
            dut.power.on()

    @pytest.fixture(scope="session")
    def booted(dut):
        print("BOOTED", dut.exporter.name)
        dut.power.on()
        yield dut
        dut.power.off()

    SEEN = []   # which outlives the session fixtures, as these are made anew

    @pytest.fixture
    def seen():
        return SEEN
"""
FAULTY = """
    from conftest import lose
    def test_it(booted, dut, jumpstarter, seen):
        seen.append(dut.exporter.name)
        if len(seen) == 1:
            lose(dut, jumpstarter)
        assert booted is dut and seen[0] != seen[1]
"""


@pytest.fixture
def faulty(suite: pytest.Pytester) -> pytest.Pytester:
    """Return a suite whose first test loses its device once."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(FAULTY + "\n    def test_later(booted): booted.power.on()\n")
    return suite


def test_runs_again_on_another_exporter(faulty: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Device and all session fixtures over it are made anew, on another board; the result counts once."""
    result = faulty.runpytest("-s", "-v", "--junitxml=report.xml", *RETRY)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["RERUN*", "PASSED*"])
    result.stdout.re_match_lines(
        [r"retried: test_it on (board-\d) \(lease pj-.* ended.*\) -> (?!\1)board-\d", "=+ 2 passed, 1 rerun in "]
    )
    assert result.stdout.str().count("BOOTED") == 2
    assert active_leases() == []
    suite_element = ET.parse(faulty.path / "report.xml").getroot()[0]
    assert [suite_element.get(name) for name in ("tests", "errors", "failures")] == ["2", "0", "0"]
    assert [case.get("name") for case in suite_element.iter("testcase")] == ["test_it", "test_later"]
    properties = [(each.get("name"), each.get("value")) for each in suite_element.iter("property")]
    assert [name for name, _ in properties].count("jumpstarter.retried") == 1


@pytest.mark.parametrize("scope", ["function", "module"])
def test_last_test_of_all(suite: pytest.Pytester, active_leases: ActiveLeases, scope: str) -> None:
    """The last test, after which everything is torn down, runs again too, in any scope."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(FAULTY.replace("booted, ", "").replace("booted is dut and ", ""))
    result = suite.runpytest(f"--jmp-scope={scope}", *RETRY)
    result.stdout.fnmatch_lines(["*= 1 passed, 1 rerun in *"])
    assert result.ret == 0
    assert active_leases() == []


def test_loss_while_blocked(suite: pytest.Pytester) -> None:
    """What would interrupt the first attempt leaves the second alone, however long that takes."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        """
        import time
        from conftest import lose
        def test_it(dut, jumpstarter, seen):
            seen.append(1)
            if len(seen) == 1:
                lose(dut, jumpstarter)
            end = time.monotonic() + 7
            while time.monotonic() < end:
                dut.power.on()
        """
    )
    suite.runpytest("--jmp-ttl=5s", *RETRY).stdout.fnmatch_lines(["*= 1 passed, 1 rerun in *"])


def test_no_more_than_asked_for(suite: pytest.Pytester) -> None:
    """After the last attempt a device error is one, counted once."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        def test_it(dut): raise ExporterOffline("gone")
        """
    )
    result = suite.runpytest("--jmp-selector=board=virtual", "--jmp-retries=2", "--junitxml=report.xml")
    result.stdout.fnmatch_lines(["*= 2 rerun, 1 device error in *"])
    assert result.ret == 8
    assert result.stdout.str().count("retried: test_it on board-") == 2
    suite_element = ET.parse(suite.path / "report.xml").getroot()[0]
    assert [suite_element.get(name) for name in ("tests", "errors", "failures")] == ["1", "1", "0"]


def test_error_in_setup(suite: pytest.Pytester) -> None:
    """A device that fails in the setup of its own fixture, as when a hook fails, is replaced too."""
    suite.makepyfile("def test_it(dut): dut.power.on()\ndef test_later(dut): dut.power.on()")
    result = suite.runpytest("--jmp-selector=board in (broken,mock)", "--jmp-retries=1", "--junitxml=report.xml")
    result.stdout.re_match_lines([r"retried: test_\w+ on hook-2 \(.*\) -> mock-1", "=+ 2 passed, 1 rerun in "])
    assert result.ret == 0
    suite_element = ET.parse(suite.path / "report.xml").getroot()[0]
    assert [suite_element.get(name) for name in ("tests", "errors", "failures")] == ["2", "0", "0"]


def test_lost_between_tests(suite: pytest.Pytester) -> None:
    """A device that is known to be lost when a test begins is replaced before it."""
    suite.makeconftest(
        CONFTEST
        + """
    runs = []

    def pytest_runtest_logfinish(nodeid):
        from pytest_jumpstarter.errors import DeviceError
        if "test_first" in nodeid:
            runs[0].healths["dut"].lose(DeviceError("the lease is gone"))
"""
    )
    suite.makepyfile(
        """
        from conftest import runs
        def test_first(booted, jumpstarter, seen):
            seen.append(booted.exporter.name)
            runs.append(jumpstarter)
        def test_second(booted, seen):
            booted.power.on()
            assert booted.exporter.name != seen[0]
        """
    )
    result = suite.runpytest(*RETRY)
    result.stdout.fnmatch_lines(["retried: test_second on board-? (*) -> board-?"])
    result.stdout.fnmatch_lines(["*= 2 passed, 1 rerun in *"])


def test_fixture_that_asks_by_name(suite: pytest.Pytester) -> None:
    """A session fixture that asks for the device by `getfixturevalue` is made anew as well."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        """
        import pytest
        from conftest import lose
        @pytest.fixture(scope="session")
        def flashed(request): return request.getfixturevalue("dut")
        def test_it(dut, flashed, jumpstarter, seen):
            seen.append(1)
            if len(seen) == 1:
                lose(dut, jumpstarter)
            assert flashed is dut
        def test_later(flashed): flashed.power.on()
        """
    )
    suite.runpytest(*RETRY).stdout.fnmatch_lines(["*= 2 passed, 1 rerun in *"])


def test_only_one_exporter(suite: pytest.Pytester) -> None:
    """Where no other exporter matches, the test runs again on the same."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        seen = []
        def test_it(dut):
            seen.append(dut.lease.name)
            if len(seen) == 1:
                raise ExporterOffline("gone")
            assert seen[0] != seen[1]
        """
    )
    result = suite.runpytest("--jmp-retries=1")
    result.stdout.fnmatch_lines(["retried: test_it on board-1 (gone) -> board-1", "*= 1 passed, 1 rerun in *"])


def test_two_roles(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Where one of two devices was lost, the test runs again with both, and both go back."""
    suite.makeconftest(
        CONFTEST
        + """
    from pytest_jumpstarter import device_fixture
    other = device_fixture(selector="board=mock")
    """
    )
    suite.makepyfile(
        """
        from conftest import lose
        def test_it(dut, other, jumpstarter, seen):
            seen.append((dut.exporter.name, other.exporter.name))
            other.power.on()
            if len(seen) == 1:
                lose(dut, jumpstarter)
            dut.power.on()
            (first, mock), (second, mock_again) = seen
            assert first != second and mock == mock_again == "mock-1"
        """
    )
    result = suite.runpytest("-s", *RETRY)
    result.stdout.re_match_lines([r"retried: test_it on .*board-\d", "=+ 1 passed, 1 rerun in "])
    assert active_leases() == []


def test_in_the_embedded_lab(pytester: pytest.Pytester) -> None:
    """The lab that the run itself has started outlives the first attempt."""
    board = "export:\n  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}\n  power: {ref: board.power}\n"
    documents = [
        f"apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\n"
        f"metadata: {{name: board-{number}, labels: {{board: virtual}}}}\n{board}"
        for number in (1, 2)
    ]
    (pytester.path / "lab.yaml").write_text("---\n".join(documents))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(FAULTY)
    result = pytester.runpytest("--jmp-lab=lab.yaml", *RETRY)
    result.stdout.re_match_lines(
        [r"retried: test_it on (board-\d) \(.*\) -> (?!\1)board-\d", ".* 1 passed, 1 rerun in "]
    )


def test_faulty_twice_is_avoided(suite: pytest.Pytester) -> None:
    """An exporter that was at fault twice serves no later lease of the run; after one fault it may."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import ExporterOffline
        faults, boards = [], []
        @pytest.mark.parametrize("dut", [f"board=virtual,!lease{number}" for number in range(6)], indirect=True)
        def test_it(dut):
            boards.append(dut.exporter.name)
            if dut.exporter.name == "board-2":  # the least capable of the two
                faults.append(1)
                raise ExporterOffline("gone")
        def test_boards():
            assert len(faults) == 2
            assert boards.count("board-1") == 6
        """
    )
    result = suite.runpytest("--jmp-scope=function", *RETRY)
    result.stdout.fnmatch_lines(["*= 7 passed, 2 rerun in *"])


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("def test_it(dut): assert 0", 1),
        ("def test_it(dut): dut.console('nonsense')", 1),
        ("def test_it(dut): raise RuntimeError('exporter offline')", 1),
        ("import pytest\n@pytest.mark.xfail\ndef test_it(dut): assert 0", 0),
    ],
    ids=["assertion", "configuration", "any error", "expected failure"],
)
def test_other_failures_stay(suite: pytest.Pytester, source: str, code: int) -> None:
    """What is no device error is never run again."""
    suite.makepyfile(source)
    result = suite.runpytest(*RETRY)
    assert result.ret == code
    result.stdout.no_fnmatch_line("* 1 rerun*")


def test_a_wait_in_vain_is_not_repeated(suite: pytest.Pytester) -> None:
    """A device that was not to be had in time is not waited for again."""
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest("--jmp-selector=board=absent", "--jmp-retries=3", "--jmp-wait=1s")
    result.stdout.fnmatch_lines(["*= 1 device error in *"])


def test_error_in_teardown_belongs_to_the_loss(suite: pytest.Pytester) -> None:
    """What fails in the teardown of the attempt that does not count does not count either."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import ExporterOffline
        seen = []
        @pytest.fixture
        def powered(dut):
            yield
            assert len(seen) == 2
        def test_it(powered):
            seen.append(1)
            if len(seen) == 1:
                raise ExporterOffline("gone")
        """
    )
    result = suite.runpytest(*RETRY)
    result.stdout.fnmatch_lines(["*= 1 passed, 1 rerun in *"])
    assert result.ret == 0


def test_fresh_instance(suite: pytest.Pytester) -> None:
    """A test method that runs again has a fresh instance of its class."""
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        seen = []
        class TestIt:
            def test_it(self, dut):
                assert not hasattr(self, "mark")
                self.mark = True
                seen.append(1)
                if len(seen) == 1:
                    raise ExporterOffline("gone")
        """
    )
    suite.runpytest(*RETRY).stdout.fnmatch_lines(["*= 1 passed, 1 rerun in *"])


def test_under_xdist(faulty: pytest.Pytester) -> None:
    """Under xdist the same is shown and counted."""
    result = faulty.runpytest("-n1", "--junitxml=report.xml", *RETRY)
    result.stdout.re_match_lines(
        [r"retried: test_it on (board-\d) \(.*\) -> (?!\1)board-\d", ".* 2 passed, 1 rerun in "]
    )
    assert result.ret == 0
    suite_element = ET.parse(faulty.path / "report.xml").getroot()[0]
    assert len(list(suite_element.iter("testcase"))) == 2


def test_beside_rerunfailures(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """Device errors are ours, test failures are pytest-rerunfailures', in the same test too."""
    suite.makeconftest(CONFTEST)
    suite.makepyfile(
        """
        from pytest_jumpstarter.errors import ExporterOffline
        seen = []
        def test_it(booted):
            seen.append(booted.exporter.name)
            assert len(seen) != 1
            if len(seen) == 2:
                raise ExporterOffline("gone")
            assert seen[0] == seen[1] != seen[2]
        def test_device():
            assert len(seen) == 3
        def test_lost(booted): raise ExporterOffline("gone")
        """
    )
    result = suite.runpytest("--reruns=1", *RETRY)
    result.stdout.fnmatch_lines(["*= 2 passed, 3 rerun, 1 device error in *"])
    assert result.ret == 8
    assert active_leases() == []


@pytest.fixture
def torn_down(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a suite whose last test fails before its setup, so that all fixtures end before it runs again."""
    pytester.makeconftest(
        """
        import pytest
        attempts = []

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            attempts.append(item.name)
            assert attempts != ["test_first", "test_last"], "the bench is not ready"
        """
    )
    pytester.makepyfile(
        """
        leases = set()
        def test_first(dut):
            leases.add(dut.lease.name)
        def test_last(dut, jumpstarter):
            dut.power.on()
            leases.add(dut.lease.name)
            assert [jumpstarter.client.get_lease(name).is_ended for name in sorted(leases)] == [True, False]
            assert [lease.name for lease in jumpstarter.leases] == [dut.lease.name]
        """
    )
    return pytester


def test_run_begins_again(suite: pytest.Pytester, torn_down: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A last test that pytest-rerunfailures runs again after all boards went back gets one again, and it goes back."""
    result = suite.runpytest("--reruns=1")
    result.stdout.fnmatch_lines(["*= 2 passed, 1 rerun in *"])
    assert result.ret == 0
    assert active_leases() == []


def test_run_begins_again_in_the_embedded_lab(torn_down: pytest.Pytester) -> None:
    """The embedded lab is still there for a last test that runs again, and its board is free."""
    (torn_down.path / "lab.yaml").write_text(exporter_document("board-1", "kind: dut"))
    result = torn_down.runpytest("--jmp-lab=lab.yaml", "--jmp-selector=kind=dut", "--reruns=1")
    result.stdout.fnmatch_lines(["*= 2 passed, 1 rerun in *"])
    assert result.ret == 0


def test_without_the_option_nothing_is_registered(suite: pytest.Pytester) -> None:
    """A run that asks for no retries has no hook of theirs."""
    suite.makepyfile(
        "def test_it(dut, pytestconfig): assert not pytestconfig.pluginmanager.hasplugin('jumpstarter-retries')"
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_bad_value(pytester: pytest.Pytester) -> None:
    """What is no number ends the run before it begins."""
    result = pytester.runpytest("--jmp-retries=often")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--jmp-retries: 'often' is not a whole number*"])

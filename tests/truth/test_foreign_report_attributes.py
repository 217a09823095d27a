"""What other plugins put on pytest's reports, whatever its name: it changes nothing of ours, nor we anything of it."""

from __future__ import annotations

import json
import re

import pytest

from .inner import DEVICE_ERROR, Bench, Seen

NAMES = ("held", "retry", "no_device", "device_error", "evidence", "artifacts", "jumpstarter")
VALUES = ("True", "2", "'x'", "[]", "{}", "{'devices': 3, 'leases': 'x'}", "None", "object()")
ERRORED, FAILED = (2, 5), (3,)
"""The numbers of those with which the tests with a board fail, for what fails takes its time."""

PLAIN_VALUES = VALUES[:-1]
"""Those that xdist can send."""

# Two plugins: one whose wrapper is as it comes, and one whose wrapper wants to be the outermost. Each report has its
# value from one of them, as its number is even or odd; in the second mode it comes when the report is logged.
CONFTEST = """
    import json, os, sys
    import pytest

    VALUES = [{values}]
    MODE = os.environ.get("TRUTH_MODE")
    changed = []

    def attribute_of(item):
        params = item.callspec.params if hasattr(item, "callspec") else {{}}
        return params.get("name"), params.get("number", 0)

    def spoil(item, report, rest):
        name, number = attribute_of(item)
        if name and number % 2 == rest:
            setattr(report, name, VALUES[number])

    class Outermost:
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, item):
            report = yield
            if MODE == "made":
                spoil(item, report, 1)
            return report

    def pytest_collection_finish(session):
        session.config.pluginmanager.register(Outermost())
        session.config.items = {{item.nodeid: item for item in session.items}}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item):
        report = yield
        if MODE == "made":
            spoil(item, report, 0)
        return report

    class Logs:
        def __init__(self, config):
            self.config = config

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_logreport(self, report):
            if MODE == "logged" and not hasattr(self.config, "workerinput"):
                name, _, number = report.nodeid.rpartition("[")[2].rstrip("]").rpartition("-")
                setattr(report, name, VALUES[int(number)])

        @pytest.hookimpl(specname="pytest_runtest_logreport", trylast=True)
        def look(self, report):
            name, _, number = report.nodeid.rpartition("[")[2].rstrip("]").rpartition("-")
            if MODE and VALUES[int(number)] != getattr(report, name, "nothing") and int(number) != len(VALUES) - 1:
                changed.append([report.nodeid, repr(getattr(report, name, "nothing"))])

    def pytest_configure(config):
        config.pluginmanager.register(Logs(config))

    def pytest_unconfigure(config):
        if not hasattr(config, "workerinput"):
            config.rootpath.joinpath("changed.json").write_text(json.dumps(changed))
            config.rootpath.joinpath("loaded.json").write_text(json.dumps(sorted(sys.modules)))
"""
PARAMETERS = """
    import pytest
    pytestmark = [
        pytest.mark.parametrize("name", {names}),
        pytest.mark.parametrize("number", {numbers}),
    ]
"""
WITHOUT = """
    @pytest.fixture
    def fails():
        yield
        assert 0
    def test_passed(name, number): pass
    def test_failed(name, number): assert 0
    def test_skipped(name, number): pytest.skip("no need of it")
    @pytest.mark.xfail
    def test_xfailed(name, number): assert 0
    def test_error(name, number, fails): pass
"""
WITH = """
    from pytest_jumpstarter.errors import ExporterOffline
    def test_board_passed(name, number, dut): pass
    def test_board_failed(name, number, dut): assert number != 3
    @pytest.mark.xfail
    def test_board_xfailed(name, number, dut): assert 0
    def test_board_errored(name, number, dut):
        if number in (2, 5):
            raise ExporterOffline("gone")
"""


def conftest(values: tuple[str, ...]) -> str:
    """Return the conftest of two plugins that put these values on reports."""
    return CONFTEST.format(values=", ".join(values))


def parameters(values: tuple[str, ...], names: tuple[str, ...] = NAMES) -> str:
    """Return the head of a module whose every test runs once for each name and value."""
    return PARAMETERS.format(numbers=list(range(len(values))), names=list(names))


def shown(result: pytest.RunResult) -> str:
    """Return what a run shows, but for what differs from run to run."""
    return re.sub(r"=+|\d+\.\d+s|/[\w./-]+|\bgw\d\b|0x\w+", "", result.stdout.str())


@pytest.mark.usefixtures("all_plugins")
@pytest.mark.parametrize("mode", ["made", "logged"])
@pytest.mark.parametrize(
    ("args", "values"),
    [(("--html=page.html",), VALUES), (("-n1",), PLAIN_VALUES)],
    ids=["here", "xdist"],
)
def test_suite_without_devices(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    values: tuple[str, ...],
    mode: str,
) -> None:
    """Any value under any name leaves a suite without devices as it is: output, outcomes, and what is imported."""
    pytester.makeconftest(conftest(values))
    pytester.makepyfile(test_it=parameters(values) + WITHOUT)
    options = ("-p", "no:randomly", "--junitxml=junit.xml", "-rA", *args)
    before = pytester.runpytest_subprocess(*options)
    modules = json.loads(pytester.path.joinpath("loaded.json").read_text())
    monkeypatch.setenv("TRUTH_MODE", mode)
    result = pytester.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert shown(result) == shown(before)
    assert json.loads(pytester.path.joinpath("loaded.json").read_text()) == modules
    changed = json.loads(pytester.path.joinpath("changed.json").read_text())
    assert changed == []


@pytest.fixture(scope="module")
def with_devices(bench: Bench) -> Seen:
    """Run tests with and without a board, each with a value under a name on its reports."""
    files = {"conftest.py": conftest(VALUES), "test_it.py": parameters(VALUES) + WITHOUT + WITH}
    args = ("--html=page.html", "--jmp-report=run.html", "--jmp-artifacts=out", "-rA")
    return bench.run(files, *args, environ={"TRUTH_MODE": "made"}, plugins=None)


def ends_with_devices() -> dict[str, str]:
    """Return how each test must end."""
    ends = {}
    for name in NAMES:
        for number in range(len(VALUES)):
            case = f"[{name}-{number}]"
            for word in ("passed", "failed", "skipped", "xfailed", "error"):
                ends[f"test_it.py::test_{word}{case}"] = word
            for word in ("passed", "xfailed"):
                ends[f"test_it.py::test_board_{word}{case}"] = word
            ends[f"test_it.py::test_board_failed{case}"] = "failed" if number in FAILED else "passed"
            ends[f"test_it.py::test_board_errored{case}"] = DEVICE_ERROR if number in ERRORED else "passed"
    return ends


def test_no_verdict_is_lost(with_devices: Seen) -> None:
    """Beside devices, each test ends as it would without those values; no device error is lost, and none is made up."""
    ends = ends_with_devices()
    found = {each["id"]: each["outcome"] for each in with_devices.run["tests"]}
    assert {test: found.get(test) for test in ends if found.get(test) != ends[test]} == {}
    for test, end in ends.items():
        assert (f"DEVICE ERROR {test} (call)\n" in with_devices.output) == (end == DEVICE_ERROR)


def test_devices_stay_on_their_tests(with_devices: Seen) -> None:
    """Ours wins on a test with a device, and what others mean by our name makes no device of a test without one."""
    assert len(with_devices.run["tests"]) == len(ends_with_devices())
    for each in with_devices.run["tests"]:
        assert len(each["devices"]) == ("test_board" in each["id"]), each
        is_kept = "test_board" in each["id"] and each["outcome"] in ("failed", DEVICE_ERROR)
        assert (each["artifacts"] is not None) == is_kept, each


def test_others_values_are_left_alone(with_devices: Seen) -> None:
    """Values under other names stay, those under ours stay on tests without a device; the rest is one warning."""
    changed = json.loads((with_devices.folder / "changed.json").read_text())
    assert [test for test, _ in changed if "test_board" not in test or "[jumpstarter-" not in test] == []
    assert with_devices.counts["warning"] == 1, with_devices.last
    warnings = with_devices.output.partition(" warnings summary ")[2].partition("\n=")[0]
    assert "report.jumpstarter" in warnings


def test_under_xdist_and_with_retries(bench: Bench) -> None:
    """The same holds for reports that cross from a worker, and for tests that run again."""
    some = ("retry", "device_error", "jumpstarter")
    files = {"conftest.py": conftest(PLAIN_VALUES), "test_it.py": parameters(PLAIN_VALUES[:4], some) + WITHOUT + WITH}
    seen = bench.run(files, "-n1", "--jmp-retries=1", environ={"TRUTH_MODE": "made"}, plugins=["xdist"])
    for name in some:
        for number in range(4):
            case = f"[{name}-{number}]"
            attempts = [each["outcome"] for each in seen.records(f"test_it.py::test_board_errored{case}")]
            assert attempts == (["rerun", DEVICE_ERROR] if number in ERRORED else ["passed"])
            assert seen.outcome(f"test_it.py::test_board_failed{case}") == ("failed" if number in FAILED else "passed")
            assert seen.outcome(f"test_it.py::test_passed{case}") == "passed"
    assert all(len(each["devices"]) == ("test_board" in each["id"]) for each in seen.run["tests"])
    assert seen.counts["warning"] == 1, seen.last

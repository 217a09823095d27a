"""What a run leaves behind: the table, the properties in JUnit, the JSON file."""

from __future__ import annotations

import html
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import xmlschema
from runs import running, wait_for

import pytest_jumpstarter
from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.evidence.record import DeviceErrorFacts, Kept, LeaseTimes, Metric
from pytest_jumpstarter.report import run_data

SCHEMA = json.loads((Path(pytest_jumpstarter.__file__).parent / "report" / "run_schema.json").read_text())
JUNIT = Path(__file__).with_name("junit.xsd")

ON_TWO_BOARDS = """
    import pytest
    from pytest_jumpstarter import device_fixture

    board = device_fixture(selector="board=virtual", scope="module")

    def pytest_jumpstarter_device_ready(device, config):
        device.power.cycle()
"""
FAILS = """
    def test_passes(board): pass
    def test_fails(board, request):
        print("PRINTED ON", board.exporter.name)
        assert board.exporter.name == "none such"
"""


def data_of(suite: pytest.Pytester) -> dict[str, Any]:
    """Return what `--jmp-report run.json` wrote, which is as its schema says."""
    data: dict[str, Any] = json.loads(suite.path.joinpath("run.json").read_text())
    jsonschema.validate(data, SCHEMA)
    return data


def properties(element: ET.Element) -> dict[str, str]:
    """Return the properties of a suite or test in a JUnit file."""
    return {str(each.get("name")): str(each.get("value")) for each in element.iterfind("properties/property")}


def test_two_workers_on_two_boards(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under xdist, each failure on two boards at once is filed with its own board, in JSON, JUnit and table."""
    monkeypatch.setenv("BUILDKITE", "true")
    monkeypatch.setenv("BUILDKITE_COMMIT", "c0ffee")
    suite.makeconftest(ON_TWO_BOARDS)
    suite.makepyfile(test_one=FAILS, test_two=FAILS)
    result = suite.runpytest_subprocess(
        "-n2", "--dist=loadfile", "--jmp-report=run.json", "--junitxml=report.xml", "-p", "no:rerunfailures"
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.re_match_lines([r"exporter +tests +device errors +queued +held +busy", r"board-1 +2 +0 .*%"])
    data = data_of(suite)
    assert data["summary"]["tests"] == {"passed": 2, "failed": 2}
    assert [each["exporter"] for each in data["exporters"]] == ["board-1", "board-2"]
    assert data["run"]["origin"]["commit"] == "c0ffee"
    for lease in data["leases"]:
        assert lease["asked"] <= lease["ready"] <= lease["connected"] <= lease["prepared"] <= lease["released"]
    suite_element = ET.parse(suite.path / "report.xml").getroot()[0]
    assert properties(suite_element)["jumpstarter.commit"] == "c0ffee"
    cases = {(str(case.get("classname")), case.get("name")): case for case in suite_element.iter("testcase")}
    for test in data["tests"]:
        [device] = test["devices"]
        if test["outcome"] == "failed":
            assert f"PRINTED ON {device['exporter']}" in test["sections"]["Captured stdout call"]
            assert f"'{device['exporter']}' == 'none such'" in test["reason"]
        [lease] = [lease for lease in data["leases"] if lease["key"] == device["key"]]
        assert (lease["worker"], lease["exporter"]) == (test["worker"], device["exporter"])
        module, _, name = test["id"].partition(".py::")
        told = properties(cases[module, name])
        assert told["jumpstarter.board.exporter"] == device["exporter"]
        assert told["jumpstarter.board.lease"] == device["lease"] == lease["lease"]
        assert told["jumpstarter.attempt"] == "1"
        assert "board=virtual" in told["jumpstarter.board.labels"]


def test_junit_is_valid_with_garbage_on_the_console(suite: pytest.Pytester) -> None:
    """Binary garbage that the board prints breaks neither the JUnit file nor the JSON file."""
    suite.makepyfile(
        r"""
        import os, pytest
        GARBAGE = bytes(range(1, 13)) + bytes(range(14, 256)) + "\ufffe\U0001f600".encode()
        def test_it(dut, console):
            dut.power.cycle()
            console.expect("login:")
            console.spawn.send(GARBAGE)
            console.sendline("")
            with pytest.raises(Exception):
                console.expect("never to be seen", timeout=2)
            print(console.before, "\x00\x0b\ufffe\uffff\x1b[31mred")
            assert console.before == "none such"
        def test_skipped(dut): pytest.skip("for no \x01 reason")
        def test_error(dut, none_such): pass
        """
    )
    suite.runpytest_subprocess("--junitxml=report.xml", "--jmp-report=run.json", "-rN").assert_outcomes(
        failed=1, skipped=1, errors=1
    )
    xmlschema.XMLSchema(str(JUNIT)).validate(str(suite.path / "report.xml"))
    [failed, *_] = data_of(suite)["tests"]
    assert "�" in failed["sections"]["Captured stdout call"]
    assert "\x1b" not in str(failed["sections"])


def test_report_tells_a_wait_in_vain(suite: pytest.Pytester) -> None:
    """A test whose board was not to be had stands in the report, with how long it waited."""
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest("--jmp-selector=board=absent", "--jmp-wait=1s", "--jmp-report=run.json")
    assert result.ret == 8
    data = data_of(suite)
    [lease], [test] = data["leases"], data["tests"]
    assert (lease["ready"], test["outcome"], data["run"]["exit_code"]) == (None, "device error", 8)
    assert lease["released"] - lease["asked"] >= 1
    assert test["device_error"]["kind"] == "LeaseTimeout"


def test_a_signal_does_not_cost_the_report(suite: pytest.Pytester, client: Client) -> None:
    """A run that SIGTERM ends writes its report all the same."""
    suite.makepyfile("def test_it(dut): print('HOLDING', flush=True); import time; time.sleep(60)")
    with running(suite, "--jmp-report=run.json") as process:
        wait_for(process.stdout, "HOLDING")
        process.terminate()
        process.communicate(timeout=30)
    data = data_of(suite)
    assert data["run"]["exit_code"] == 143
    assert [lease["exporter"] for lease in data["leases"]] == ["board-1"]


def test_nothing_without_devices(pytester: pytest.Pytester) -> None:
    """A run without devices shows no table; the file that was asked for is written, with its tests."""
    pytester.makepyfile("def test_it(): pass")
    shown = pytester.runpytest("--jmp-report=run.json").stdout.str()
    assert "= jumpstarter =" not in shown
    assert "device errors" not in shown
    assert [test["outcome"] for test in data_of(pytester)["tests"]] == ["passed"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--jmp-report=run.txt", "--jmp-report: 'run.txt' * .json*"),
        ("--jmp-report=taken/run.json", "--jmp-report: *taken/run.json cannot be written: *"),
        ("--jmp-artifacts=taken/art", "--jmp-artifacts: *taken/art cannot be written: *"),
    ],
)
def test_wrong_file_is_refused_at_once(pytester: pytest.Pytester, option: str, words: str) -> None:
    """A file or folder that cannot be written, or a file of an unknown kind, ends the run before it begins."""
    pytester.path.joinpath("taken").write_text("a file, where a folder would have to be")
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}"])


@pytest.mark.usefixtures("all_plugins")
def test_pytest_html_has_our_columns(suite: pytest.Pytester) -> None:
    """The page of pytest-html names exporter and lease of each test, and has more on its device."""
    suite.makepyfile("def test_it(dut): print('LEASE', dut.lease.name)\ndef test_plain(): pass")
    result = suite.runpytest_subprocess("-n1", "--html=page/all.html", "--self-contained-html", "-rP")
    result.assert_outcomes(passed=2)
    lease = next(line.split()[-1] for line in result.outlines if line.startswith("LEASE"))
    page = html.unescape(suite.path.joinpath("page", "all.html").read_text()).replace('\\"', '"')
    assert "<td>board-1</td>" in page
    assert f"<td>{lease}</td>" in page
    assert "<td></td>" in page
    assert ">Exporter</th>" in page
    assert '"name": "device dut"' in page


@pytest.mark.usefixtures("all_plugins")
def test_pytest_html_has_subtests_and_no_secret_ids(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a test that failed has the errors of all its subtests; no id and no file name shows a secret."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "s3cret-of-the-lab")
    suite.makepyfile(
        """
        import os, pytest
        def test_parts(dut, subtests):
            for side in ("left", "right"):
                with subtests.test(side, number=7): assert dut is None, f"no {side}"
            with subtests.test("all"): pass
        TOKEN = os.environ["JMP_GRPC_PASSPHRASE"]
        @pytest.mark.parametrize("token", [TOKEN], ids=[f"<{TOKEN}>"])
        def test_id(dut, token): assert token == "x"
        """
    )
    suite.runpytest_subprocess("--html=page.html", "--jmp-artifacts=out", "-p", "no:cacheprovider")
    text = (suite.path / "page.html").read_text()
    found = re.search(r'data-jsonblob="(.*?)"></div>', text, re.DOTALL)
    assert found is not None
    tests = json.loads(html.unescape(found[1]))["tests"]
    ((name, rows), (other, _)) = tests.items()
    assert other.endswith("::test_id[<***>]")
    by_result = {row["resultsTableRow"][0]: row for row in rows}
    failed, passed = (next(row for cell, row in by_result.items() if each in cell) for each in ("Failed", "Passed"))
    assert f"{name}</td>" in failed["resultsTableRow"][1]
    assert f"{name} [all]</td>" in passed["resultsTableRow"][1]
    for words in ("[left] (number=7)", "no left", "[right] (number=7)", "no right"):
        assert words in failed["log"]
    files = [path for path in suite.path.rglob("*") if path.suffix not in (".py", ".pyc")]
    assert not [path for path in files if re.search("s3cret.of.the.lab", path.name)]
    assert not [path for path in files if path.is_file() and "s3cret-of-the-lab" in path.read_text()]


def test_the_last_of_two_devices_did_not_queue_for_the_first(suite: pytest.Pytester) -> None:
    """The wait for two devices together ends for both at once, however long the first takes to be prepared."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        gateway = device_fixture(selector="kind=gateway")
        def pytest_jumpstarter_device_ready(device): device.power.cycle()
        """
    )
    suite.makepyfile("def test_it(dut, gateway): pass")
    suite.runpytest_subprocess("--jmp-report=run.json").assert_outcomes(passed=1)
    data = data_of(suite)
    leases = data["leases"]
    assert {lease["role"] for lease in leases} == {"dut", "gateway"}
    assert max(lease["ready"] for lease in leases) <= min(lease["connected"] for lease in leases)
    assert [len(test["devices"]) for test in data["tests"]] == [2]


def test_a_worker_that_died_costs_no_report(suite: pytest.Pytester) -> None:
    """A test whose xdist worker died stands in the report as failed, on its board; the others are there too."""
    suite.makepyfile(
        """
        import os
        def test_before(dut): pass
        def test_dies(dut): os._exit(1)
        """
    )
    suite.runpytest_subprocess("-n1", "--max-worker-restart=0", "--jmp-ttl=5s", "--jmp-report=run.json")
    data = data_of(suite)
    assert {test["id"].partition("::")[2]: test["outcome"] for test in data["tests"]} == {
        "test_before": "passed",
        "test_dies": "failed",
    }
    assert [test["devices"][0]["exporter"] for test in data["tests"]] == ["board-1", "board-1"]
    assert [lease["released"] for lease in data["leases"]] == [None]


def test_files_of_the_ini_file(pytester: pytest.Pytester) -> None:
    """The ini file may name several files, beside itself; the command line replaces them all."""
    pytester.makeini("[pytest]\njmp_report =\n  out/a.json\n  out/b.md\n")
    pytester.makepyfile(**{"sub/test_it": "def test_it(): pass"})
    pytester.runpytest("sub").assert_outcomes(passed=1)
    assert {path.name for path in pytester.path.joinpath("out").iterdir()} == {"a.json", "b.md"}
    shutil.rmtree(pytester.path / "out")
    pytester.runpytest("sub", "--jmp-report=c.html").assert_outcomes(passed=1)
    assert not pytester.path.joinpath("out").exists()
    assert pytester.path.joinpath("c.html").exists()


def test_types_and_schema_of_the_file_agree() -> None:
    """The types in the code have the keys that the schema of the JSON file has."""
    schema = json.loads((Path(run_data.__file__).parent / "run_schema.json").read_text())
    tops = schema["properties"]
    items = {name: tops[name]["items"]["properties"] for name in ("exporters", "leases", "tests")}
    tests = items["tests"]
    pairs = [
        (run_data.RunData, tops),
        (run_data.RunFacts, tops["run"]["properties"]),
        (run_data.Summary, tops["summary"]["properties"]),
        (run_data.ExporterData, items["exporters"]),
        (LeaseTimes, items["leases"]),
        (run_data.TestData, tests),
        (run_data.DeviceOfTest, tests["devices"]["items"]["properties"]),
        (DeviceErrorFacts, tests["device_error"]["properties"]),
        (Kept, tests["artifacts"]["properties"]),
        (Metric, tests["metrics"]["items"]["properties"]),
        (run_data.Property, tests["properties"]["items"]["properties"]),
    ]
    for kind, properties in pairs:
        assert set(kind.__annotations__) == set(properties), kind

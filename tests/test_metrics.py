"""`record_metric`: numbers with units and limits, in every output."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import every_25th_fails, made_up

from pytest_jumpstarter import MetricOutOfLimits, MetricRecorder
from pytest_jumpstarter.history.store import History
from pytest_jumpstarter.masking import learn
from pytest_jumpstarter.report.open_metrics import open_metrics

HOSTILE = ("a\nb 1\n# EOF", 'say "no"} 2', "C:\\new", "größe ☃", "\u2028", "a,b={}", "# TYPE x counter", "tab\t", "\\n")
SUITE = """
    import pytest

    def test_boots(dut, record_metric, record_property):
        record_metric("boot_time", 3.25, unit="s", max=5)
        record_metric("throughput", 11, unit="MB/s", labels={"direction": 'up "fast"'})
        record_metric("throughput", 12, unit="MB/s", labels={"direction": "down"})
        record_property("firmware", "1.2.3")
        record_property("build", 7)

    def test_slow(dut, record_metric):
        record_metric("boot_time", 6.5, unit="s", max=5)

    def test_cold(dut, record_metric):
        record_metric("temperature", -41, unit="°C", min=-40)

    def test_subtests(dut, record_metric, subtests):
        for number in range(3):
            with subtests.test(number=number):
                record_metric("current", number / 4, unit="A", max=0.25, labels={"port": number})

    def test_without_device(record_metric, record_property):
        record_metric("answer", 42)
        record_property("colour", "red")

    def test_without_metrics(dut):
        pass
"""


def samples_in(text: str) -> dict[tuple[str, str], float]:
    """Return the values in a file, as the reference parser reads it, by name and test; labels of others are added."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == "gauge"
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in ("test", "exporter")}
            name = sample.labels["test"].partition("::test_")[2]
            found[f"{sample.name} {labels or ''}".strip(), name] = sample.value
            assert sample.name.endswith(family.unit)
    return found


def test_metrics_are_in_every_output(suite: pytest.Pytester) -> None:
    """A test with and without a device: JUnit, JSON, Markdown, history and OpenMetrics have what it recorded."""
    suite.makepyfile(test_it=SUITE)
    result = suite.runpytest(
        "--jmp-metrics=out/metrics.txt", "--jmp-report=run.json", "--jmp-report=run.md", "--junitxml=junit.xml",
        "--jmp-history=history.db",
        "--override-ini=junit_family=xunit1",
    )  # fmt: skip
    result.assert_outcomes(failed=4, passed=3)
    result.stdout.fnmatch_lines(
        [
            '>       record_metric("boot_time", 6.5, unit="s", max=5)',
            "E       pytest_jumpstarter.errors.MetricOutOfLimits: boot_time is 6.5 s, more than its maximum of 5 s",
            "E       *MetricOutOfLimits: temperature is -41 °C, less than its minimum of -40 °C",
            "E       *MetricOutOfLimits: current{port=2} is 0.5 A, more than its maximum of 0.25 A",
            "jumpstarter metrics: */out/metrics.txt",
        ]
    )
    expected = {
        ("boot_time_seconds", "boots"): 3.25,
        ("boot_time_seconds", "slow"): 6.5,
        ("throughput_megabytes_per_second {'direction': 'up \"fast\"'}", "boots"): 11,
        ("throughput_megabytes_per_second {'direction': 'down'}", "boots"): 12,
        ("temperature_celsius", "cold"): -41,
        **{(f"current_amperes {{'port': '{number}'}}", "subtests"): number / 4 for number in range(3)},
        ("answer", "without_device"): 42,
    }
    text = (suite.path / "out" / "metrics.txt").read_text()
    assert samples_in(text) == expected
    assert 'boot_time_seconds{test="test_it.py::test_boots",exporter="board-1"} 3.25\n' in text
    tests = {
        test["id"].partition("::test_")[2]: test for test in json.loads((suite.path / "run.json").read_text())["tests"]
    }
    assert tests["slow"]["metrics"] == [
        {"name": "boot_time", "value": 6.5, "unit": "s", "min": None, "max": 5, "labels": {}}
    ]
    assert tests["without_metrics"]["metrics"] == []
    assert len(tests["subtests"]["metrics"]) == 3
    assert tests["boots"]["properties"] == [{"name": "firmware", "value": "1.2.3"}, {"name": "build", "value": "7"}]
    assert tests["without_device"]["properties"] == [{"name": "colour", "value": "red"}]
    cases = {case.get("name"): case for case in ET.parse(suite.path / "junit.xml").iter("testcase")}
    properties = {each.get("name"): each.get("value") for each in cases["test_boots"].iter("property")}
    assert properties["metric.boot_time"] == "3.25 s"
    assert properties['metric.throughput{direction=up "fast"}'] == "11 MB/s"
    assert (
        "| boot_time | 6.5 s |  | 5 | test&#95;it.py::test&#95;slow | board-1 |".replace("boot_time", "boot&#95;time")
        in (suite.path / "run.md").read_text()
    )
    [run] = History(suite.path / "history.db").full_runs()
    kept = {result.test.partition("::test_")[2]: json.loads(result.metrics or "[]") for result in run.results}
    assert kept["slow"] == tests["slow"]["metrics"]
    assert kept["without_metrics"] == []


def test_attempts_and_workers(pytester: pytest.Pytester) -> None:
    """A test that runs again starts without metrics, under xdist too; the file has its last attempt, once."""
    pytest.importorskip("xdist")
    pytest.importorskip("pytest_rerunfailures")
    pytester.makepyfile(
        """
        from pathlib import Path
        def test_flaky(record_metric, worker_id):
            first = Path(f"first-{worker_id}")
            attempt = 2 if first.exists() else 1
            first.touch()
            record_metric("attempt", attempt, min=2)
        """
    )
    arguments = (
        "--reruns=1",
        "-n2",
        "--dist=each",
        "--jmp-report=run.json",
        "--jmp-metrics=metrics.txt",
        "--junitxml=j.xml",
    )
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=2)  # and 2 reruns
    tests = json.loads((pytester.path / "run.json").read_text())["tests"]
    assert sorted(test["metrics"][0]["value"] for test in tests) == [1, 1, 2, 2]
    assert all(len(test["metrics"]) == 1 for test in tests)
    assert sorted((pytester.path / "metrics.txt").read_text().splitlines()) == [
        "# EOF",
        "# TYPE attempt gauge",
        'attempt{test="test_attempts_and_workers.py::test_flaky",worker="gw0"} 2',
        'attempt{test="test_attempts_and_workers.py::test_flaky",worker="gw1"} 2',
    ]
    cases = list(ET.parse(pytester.path / "j.xml").iter("testcase"))  # one for each attempt
    values = [
        [each.get("value") for each in case.iter("property") if each.get("name") == "metric.attempt"] for case in cases
    ]
    assert sorted(values) == [["1"], ["1"], ["2"], ["2"]]


def test_without_an_option_a_metric_costs_a_property(pytester: pytest.Pytester) -> None:
    """In a suite without devices and without our options, a metric is a property and limits hold; nothing is shown."""
    pytester.makepyfile(
        """
        def test_good(record_metric): record_metric("answer", 42)
        def test_bad(record_metric): record_metric("answer", 42, min=43)
        def test_twice(record_metric):
            record_metric("answer", 1)
            record_metric("answer", 2)
        """
    )
    result = pytester.runpytest("--junitxml=j.xml")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.no_fnmatch_line("*jumpstarter ====*")
    result.stdout.fnmatch_lines(
        ["*ValueError: record_metric: answer was recorded before in this test (1); record each*"]
    )
    assert '<property name="metric.answer" value="42" />' in (pytester.path / "j.xml").read_text()


class Item:
    """A test, as far as `MetricRecorder` uses it."""

    def __init__(self) -> None:
        self.stash = pytest.Stash()
        self.user_properties: list[tuple[str, object]] = []


@pytest.fixture
def record() -> MetricRecorder:
    """Return a recorder of a test of its own."""
    return MetricRecorder(Item())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (1.5, 1.5),
        (Decimal("1.25"), 1.25),
        (Fraction(1, 4), 0.25),
        (-0.0, 0.0),
        (2**80, 2**80),
        (1e-300, 1e-300),
    ],
)
def test_numbers_of_any_type(record: MetricRecorder, value: Any, kept: float) -> None:
    """A number of any type is recorded as a plain one."""
    record("answer", value)
    [[_, text]] = record._item.user_properties
    assert float(str(text)) == kept


class Celsius:
    """A number of a library."""

    def __float__(self) -> float:
        return 20.5


def test_a_recorder_shows_what_it_has(record: MetricRecorder) -> None:
    """A traceback shows the fixture with what the test has recorded; a duration is refused with what to do."""
    assert repr(record) == "<MetricRecorder: nothing yet>"
    record("boot_time", 3.5, "s")
    assert repr(record) == "<MetricRecorder: boot_time 3.5 s>"
    with pytest.raises(TypeError, match=r"halt_time is datetime.timedelta\(seconds=3\), .*; use \.total_seconds\(\)$"):
        record("halt_time", timedelta(seconds=3))  # type: ignore[arg-type]


def test_numbers_of_libraries(record: MetricRecorder) -> None:
    """A number of a library is converted as Python converts it."""
    record("answer", Celsius(), min=20)  # type: ignore[arg-type]
    assert record._item.user_properties == [("metric.answer", "20.5")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), 10**400])
def test_what_is_not_finite_is_refused(record: MetricRecorder, value: Any) -> None:
    """NaN, infinity and numbers beyond a float are no measurements, nor limits."""
    with pytest.raises(ValueError, match=r"^record_metric: answer is .*, which is not a finite number$"):
        record("answer", value)
    with pytest.raises(ValueError, match=r"the maximum of answer is .*, which is not a finite number$"):
        record("answer", 1, max=value)
    assert record._item.user_properties == []


@pytest.mark.parametrize("value", ["1", b"1", None, True, 1j, [1]])
def test_what_is_no_number_is_refused(record: MetricRecorder, value: Any) -> None:
    """Text, None, truth values and complex numbers are no numbers."""
    with pytest.raises(TypeError, match=r"^record_metric: answer is .*, which is not a number$"):
        record("answer", value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("boot time", "use 'boot_time'"),
        ("9 lives", "use 'lives'"),
        ("boot.time", "use 'boot_time'"),
        ("größe", "use 'gr_e'"),
        ("a" * 101, f"use '{'a' * 100}'"),
        ("", ""),
        ("_", ""),
        (None, "use 'None'"),
        ("a\nb", "use 'a_b'"),
    ],
)
def test_bad_names_are_refused(record: MetricRecorder, name: Any, hint: str) -> None:
    """A name that Prometheus would not take is refused, with one that it takes; of labels, too."""
    with pytest.raises(ValueError, match="is not the name of a metric") as raised:
        record(name, 1)
    assert str(raised.value).endswith(hint or "a letter")
    with pytest.raises(ValueError, match="is not the name of a label"):
        record("answer", 1, labels={name: "x"})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"unit": "s\n"}, r"the unit of answer is 's\\n', which is not a text of one line"),
        ({"unit": 5}, "the unit of answer is 5, which"),
        ({"unit": "x" * 201}, "not a text of one line"),
        ({"labels": {"test": "x"}}, "the label 'test' of answer is one that --jmp-metrics adds"),
        (
            {"labels": {"port": "\x1b[31m"}},
            r"the label port of answer is '\\x1b\[31m', which is not a text of one line",
        ),
        ({"min": 3, "max": 2}, "answer has min=3, which is more than max=2"),
    ],
)
def test_bad_arguments_are_refused(record: MetricRecorder, more: Any, words: str) -> None:
    """Other arguments are checked, and a message says which is wrong; nothing is recorded."""
    with pytest.raises(ValueError, match=words):
        record("answer", 1, **more)
    assert record._item.user_properties == []


@pytest.mark.parametrize("value", [2, 3])
def test_a_limit_is_within_the_limits(record: MetricRecorder, value: int) -> None:
    """A value that equals its minimum or maximum passes."""
    record("answer", value, min=2, max=3)


def test_a_value_beyond_its_limits_is_recorded(record: MetricRecorder) -> None:
    """What fails the test is in its evidence."""
    with pytest.raises(MetricOutOfLimits, match=r"^answer is 4, more than its maximum of 3$"):
        record("answer", 4, max=3)
    assert record._item.user_properties == [("metric.answer", "4")]


def test_secrets_are_masked(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in a name, a unit, a label or a property is masked in every file, which stays readable for parsers."""
    learn("sesame_seed_17")
    pytester.makepyfile(
        """
        def test_a(record_metric, record_property):
            secret = "sesame_seed_17"
            record_metric(secret, 1, unit=secret, labels={secret: secret, "x": 1})
            record_property(secret, secret)
        """
    )
    pytester.runpytest(
        "--jmp-metrics=m.txt",
        "--jmp-report=run.json",
        "--jmp-report=run.html",
        "--junitxml=j.xml",
        "-ojunit_family=xunit1",
    )
    for name in ("m.txt", "run.json", "run.html", "j.xml"):
        assert "sesame" not in (pytester.path / name).read_text()
    assert samples_in((pytester.path / "m.txt").read_text()) == {
        ("unknown_unknown {'unknown': '***', 'x': '1'}", "a"): 1
    }


def test_words_of_others_cannot_leave_their_line(tmp_path: Path) -> None:
    """Whatever tests, boards and labels are called, the reference parser reads each sample, with what it was called."""
    run = made_up(len(HOSTILE), 1, every_25th_fails)
    for test, evil in zip(run["tests"], HOSTILE, strict=True):
        test["id"], test["devices"] = f"::test_{evil}", [{**test["devices"][0], "exporter": evil}]
        test["metrics"] = [{"name": evil, "value": 1, "unit": evil, "min": None, "max": None, "labels": {"x": evil}}]
    assert {name for _, name in samples_in(open_metrics(run, tmp_path))} == set(HOSTILE)


def test_families_of_one_name(tmp_path: Path) -> None:
    """Units that differ make families of their own; a name that has its unit gets no second one; order is stable."""
    run = made_up(30, 1, every_25th_fails)
    [test] = run["tests"][:1]
    facts = [
        ("boot", "s"),
        ("boot", "ms"),
        ("boot_seconds", ""),
        ("boot_seconds", "s"),
        ("load", "%"),
        ("rate", "1/s"),
        ("odd", "·"),
    ]
    test["metrics"] = [
        {"name": name, "value": number, "unit": unit, "min": None, "max": None, "labels": {"n": str(number)}}
        for number, (name, unit) in enumerate(facts)
    ]
    text = open_metrics(run, tmp_path)
    families = ["boot_milliseconds", "boot_seconds", "load_percent", "odd_unknown", "rate_1_per_second"]
    assert [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")] == families
    assert "# UNIT boot_seconds" not in text  # one value has no unit
    assert len(samples_in(text)) == len(facts)

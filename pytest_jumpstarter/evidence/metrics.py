"""
Metrics: numbers that tests measure, with units and limits; the fixture `record_metric`.

They are kept on the test, as properties for JUnit, and in the records of its reports.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Generator, Mapping

import pytest

from pytest_jumpstarter.errors import MetricOutOfLimits
from pytest_jumpstarter.evidence.record import MAPS, OURS, Metric, Record, metric_property, record_of, words_of
from pytest_jumpstarter.masking.structures import safe_record
from pytest_jumpstarter.roles import RECORD_FORMAT

RESERVED_LABELS = ("test", "exporter", "worker")
"""The labels that `--jmp-metrics` adds."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_LONGEST_TEXT = 200
_RECORDED: pytest.StashKey[list[Metric]] = pytest.StashKey()


class MetricRecorder:
    """Records metrics of one test: what the fixture `record_metric` yields."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __repr__(self) -> str:
        recorded = self._item.stash.get(_RECORDED, [])
        return f"<MetricRecorder: {', '.join(map(_shown, recorded)) or 'nothing yet'}>"

    def __call__(
        self,
        name: str,
        value: float,
        unit: str = "",
        *,
        min: float | None = None,  # noqa: A002 - so everybody calls it
        max: float | None = None,  # noqa: A002
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """
        Record a number, and then compare it with its limits.

        Args:
            name: Letters, digits and `_`, such as `boot_time`.
            value: A finite number.
            unit: Its unit, such as `s`, `MB/s` or `°C`.
            min: The test fails if the value is less.
            max: The test fails if the value is more.
            labels: Tell several values of one name apart.

        Raises:
            MetricOutOfLimits: The value is not within its limits; it is recorded nevertheless.
            TypeError, ValueError: An argument is invalid, or the test has recorded this metric before.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        metric: Metric = {
            "name": _checked_name(name, "metric"),
            "value": _number(value, name),
            "unit": _checked_text(unit, f"the unit of {name}"),
            "min": None if min is None else _number(min, f"the minimum of {name}"),
            "max": None if max is None else _number(max, f"the maximum of {name}"),
            "labels": _checked_labels(labels or {}, name),
        }
        if metric["min"] is not None and metric["max"] is not None and metric["min"] > metric["max"]:
            raise ValueError(f"record_metric: {name} has min={metric['min']}, which is more than max={metric['max']}")
        self._keep(metric)
        if excess := _excess(metric):
            raise MetricOutOfLimits(excess)

    def _keep(self, metric: Metric) -> None:
        __tracebackhide__ = True
        kept = self._item.stash.setdefault(_RECORDED, [])
        before = [each for each in kept if (each["name"], each["labels"]) == (metric["name"], metric["labels"])]
        if before:
            raise ValueError(
                f"record_metric: {metric['name']} was recorded before in this test ({words_of(before[0])}); "
                "record each metric once, or tell its values apart by labels={…}"
            )
        kept.append(metric)
        self._item.user_properties.append(metric_property(metric))


class MetricReports:
    """
    Adds the metrics of a test to the records of its reports. It is registered when the first test uses them.

    Args:
        worker: The name of this process.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Forget the metrics of an earlier attempt."""
        ours = [metric_property(metric) for metric in item.stash.get(_RECORDED, [])]
        item.user_properties[:] = [each for each in item.user_properties if each not in ours]
        item.stash[_RECORDED] = []

    @pytest.hookimpl(wrapper=True, trylast=True)  # before the pipeline, which makes a record of its own
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give the report of a test a record, if it has metrics."""
        report = yield
        record: Record = {"format": RECORD_FORMAT, "worker": self._worker, "attempt": 1, "devices": []}
        add_metrics(item, record)
        if "metrics" in record and record_of(report) is None:
            report.jumpstarter = safe_record(record, ours=OURS, maps=MAPS)  # type: ignore[attr-defined]  # plugins may add attributes to reports
        return report


def recorder(item: pytest.Item) -> MetricRecorder:
    """Return what records metrics of a test; the first call registers what reports them."""
    config = item.config
    if not config.pluginmanager.hasplugin("jumpstarter-metrics"):
        worker = getattr(config, "workerinput", {}).get("workerid", "main")
        config.pluginmanager.register(MetricReports(worker), "jumpstarter-metrics")
    return MetricRecorder(item)


def add_metrics(item: pytest.Item, record: Record) -> None:
    """Add what a test has recorded so far to the record of a report."""
    if metrics := item.stash.get(_RECORDED, []):
        record["metrics"] = list(metrics)


def _number(value: object, what: str) -> float:
    """Return a value as a plain number, whatever library its type is of."""
    __tracebackhide__ = True
    is_number = hasattr(value, "__index__") or hasattr(value, "__float__")
    if isinstance(value, bool) or not is_number:
        hint = "; use .total_seconds()" if hasattr(value, "total_seconds") else ""
        raise TypeError(f"record_metric: {what} is {value!r}, which is not a number{hint}")
    try:
        number = operator.index(value) if hasattr(value, "__index__") else float(value)  # type: ignore[arg-type]
        is_finite = math.isfinite(number)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise ValueError(f"record_metric: {what} is {value}, which is not a finite number")
    return number


def _checked_name(name: object, kind: str) -> str:
    __tracebackhide__ = True
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    proposal = re.sub(r"[^A-Za-z0-9_]+|^[^A-Za-z]+", "_", str(name)).strip("_")[:100]
    hint = f"; use {proposal!r}" if _NAME.fullmatch(proposal) else ""
    raise ValueError(
        f"record_metric: {name!r} is not the name of a {kind}: at most 100 letters, digits and '_', "
        f"the first one a letter{hint}"
    )


def _checked_text(text: object, what: str) -> str:
    __tracebackhide__ = True
    if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_TEXT:
        raise ValueError(f"record_metric: {what} is {text!r}, which is not a text of one line")
    return text


def _checked_labels(labels: Mapping[str, str], metric: str) -> dict[str, str]:
    __tracebackhide__ = True
    for name in labels:
        _checked_name(name, "label")
        if name in RESERVED_LABELS:
            raise ValueError(f"record_metric: the label {name!r} of {metric} is one that --jmp-metrics adds")
    return {name: _checked_text(str(value), f"the label {name} of {metric}") for name, value in labels.items()}


def _shown(metric: Metric) -> str:
    return f"{metric['name']} {words_of(metric)}"


def _excess(metric: Metric) -> str:
    """Return in one sentence how a value exceeds its limits; empty if it does not."""
    least, most, unit = metric["min"], metric["max"], metric["unit"]
    for limit, words, is_exceeded in (
        (least, "less than its minimum of", least is not None and metric["value"] < least),
        (most, "more than its maximum of", most is not None and metric["value"] > most),
    ):
        if is_exceeded:
            return (
                f"{metric_property(metric)[0].partition('.')[2]} is {words_of(metric)}, {words} {limit} {unit}".rstrip()
            )
    return ""

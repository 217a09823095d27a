"""
The file of `--jmp-metrics`: what the tests measured, as text in the format OpenMetrics 1.0.

Source: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pytest_jumpstarter.evidence.record import Metric
from pytest_jumpstarter.report.run_data import RunData, TestData

_UNITS = {
    "s": "seconds", "ms": "milliseconds", "us": "microseconds", "µs": "microseconds", "ns": "nanoseconds",
    "min": "minutes", "h": "hours", "B": "bytes", "kB": "kilobytes", "KB": "kilobytes", "MB": "megabytes",
    "GB": "gigabytes", "KiB": "kibibytes", "MiB": "mebibytes", "GiB": "gibibytes", "bit": "bits", "Hz": "hertz",
    "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "V": "volts", "mV": "millivolts", "A": "amperes",
    "mA": "milliamperes", "uA": "microamperes", "µA": "microamperes", "W": "watts", "mW": "milliwatts",
    "J": "joules", "Ω": "ohms", "°C": "celsius", "C": "celsius", "K": "kelvins", "%": "percent", "dB": "decibels",
    "dBm": "decibel_milliwatts", "m": "meters", "mm": "millimeters", "g": "grams", "kg": "kilograms",
}  # fmt: skip
"""Words for units: a name that ends in a word is understood, and `%` cannot be part of a name."""

_Sample = tuple[str, str, dict[str, str], float]


def open_metrics(data: RunData, path: Path) -> str:  # noqa: ARG001 - the signature of all formats
    """Return the metrics of the last attempt of each test."""
    families: dict[str, list[_Sample]] = {}
    last_attempts = {(test["worker"], test["id"]): test for test in data["tests"]}
    for test in last_attempts.values():
        for metric in test["metrics"]:
            unit = _unit(metric["unit"])
            families.setdefault(_family(metric["name"], unit), []).append(
                (test["worker"], unit, _labels(test, metric), metric["value"])
            )
    return "".join(line for name in sorted(families) for line in _lines(name, families[name])) + "# EOF\n"


def _lines(name: str, samples: list[_Sample]) -> Iterator[str]:
    yield f"# TYPE {name} gauge\n"
    units = {unit for _, unit, _, _ in samples}
    if len(units) == 1 and (unit := units.pop()):
        yield f"# UNIT {name} {unit}\n"
    times = Counter(_label_text(labels) for _, _, labels, _ in samples)
    for worker, _, labels, value in samples:
        is_repeated = times[_label_text(labels)] > 1  # by xdist's `--dist each`
        text = _label_text({**labels, "worker": worker} if is_repeated else labels)
        yield f"{name}{{{text}}} {value}\n"


def _labels(test: TestData, metric: Metric) -> dict[str, str]:
    exporters = dict.fromkeys(device["exporter"] for device in test["devices"] if device["exporter"])
    ours = {"test": test["id"]} | ({"exporter": ",".join(exporters)} if exporters else {})
    return ours | {_as_name(name): value for name, value in metric["labels"].items()}


def _label_text(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unit(text: str) -> str:
    """Return a unit as words for a name, such as `megabytes_per_second`."""
    first, *rest = [_UNITS.get(part, part) for part in text.split("/")]
    words = [first, *(_UNITS_PER.get(part, part) for part in rest)]
    return _as_name("_per_".join(words)) if text else ""


_UNITS_PER = {"seconds": "second", "minutes": "minute", "hours": "hour", "meters": "meter"}


def _as_name(text: str) -> str:
    """Return text as a part of a name; a secret may have been masked in it."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "unknown"


def _family(name: str, unit: str) -> str:
    """Return the name of a family, which ends in its unit."""
    name = _as_name(name)
    return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"

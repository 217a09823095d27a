"""
What the script of the page reads: a run as compact JSON.

Names that occur often stand in tables, and a test is a row of numbers that point into them. Times are milliseconds
since the start. The long texts are apart and compressed: the page shows few of them, and a console compresses well.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Hashable

from pytest_jumpstarter.evidence.record import (
    DeviceFacts,
    Kept,
    LeaseTimes,
    Metric,
    StateTimes,
    metric_property,
    words_of,
)
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.report.failure_groups import Group
from pytest_jumpstarter.report.outcomes import bad_phases, in_words, is_bad
from pytest_jumpstarter.report.run_data import RunData, TestData

PHASES = ("setup", "call", "teardown")
Links = Callable[[Kept | None], list[tuple[str, str]]]


class Table:
    """Values, each once; `add` returns the position of a value."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._positions: dict[Hashable, int] = {}

    def add(self, value: object, key: Hashable | None = None) -> int:
        """Add a value, unless it is there, and return its position; `key` identifies a value that is no key itself."""
        key = value if key is None else key
        if key not in self._positions:
            self._positions[key] = len(self.values)
            self.values.append(value)
        return self._positions[key]


class PageData:
    """
    The data of one page.

    Args:
        data: The run, from `RunRecord.as_data`.
        groups: Its failures.
        links: Returns the names and URLs of the files of a test.
    """

    def __init__(self, data: RunData, groups: list[Group], links: Links) -> None:
        self._data = data
        self._links = links
        asked = [lease["asked"] for lease in data["leases"]]
        self._start = min([data["run"]["start"], *asked])
        self._group_of = {number: position for position, group in enumerate(groups) for number in group.tests}
        self._groups = [group.reason for group in groups]
        self._tables = {name: Table() for name in ("files", "workers", "outcomes", "reasons", "titles", "roles")}
        self._boards, self._devices, self._texts = Table(), Table(), Table()
        self._lease_at = {lease["key"]: position for position, lease in enumerate(data["leases"])}

    def facts(self) -> str:
        """Return everything but the long texts, as JSON that may stand in a `<script>`."""
        boards: dict[str, dict[str, object]] = {each["exporter"]: {**each} for each in self._data["exporters"]}
        for name, known in self._health().items():
            if name in boards:
                boards[name]["history"] = known
        for name in boards:
            self._boards.add(name)
        tests = [self._test(number, test) for number, test in enumerate(self._data["tests"])]
        leases = [self._lease(each) for each in self._data["leases"]]
        return _json(
            {
                "start": self._start,
                "zone": real_time.localtime(self._start).tm_gmtoff,
                "length": self._since_start(self._data["run"]["stop"]),
                "boards": [boards.get(str(name), {"exporter": name}) for name in self._boards.values],
                "hasHistory": bool(self._health()),
                "groups": self._groups,
                "devices": self._devices.values,
                "leases": leases,
                "states": [self._state(each) for each in self._data["states"] if each["lease"] in self._lease_at],
                "tests": tests,
                **{name: table.values for name, table in self._tables.items()},
            }
        ).replace("<", "\\u003c")

    def texts(self) -> str:
        """Return the long texts that tests of `facts` refer to: a JSON list, compressed by zlib, in base64."""
        packed = zlib.compress(_json(self._texts.values).encode("utf-8", "replace"), 6)
        return base64.b64encode(packed).decode()

    def _health(self) -> dict[str, list[object]]:
        """Return what many runs say about each board; `templates/model.js` reads it."""
        history = self._data["history"]
        return {
            each["exporter"]: [
                each["leases"],
                each["errors_per_100"],
                None if each["ready_seconds"] is None else round(1000 * each["ready_seconds"]),
                each["slow_boots"],
                each["is_unhealthy"],
            ]
            for each in (history["boards"] if history else [])
        }

    def _test(self, number: int, test: TestData) -> list[object]:
        """Return the row of a test; `templates/model.js` reads it."""
        file, separator, name = test["id"].partition("::")
        tables, outcome = self._tables, test["outcome"]
        bad = bad_phases(test)
        error = test["device_error"]
        return [
            tables["files"].add(file),
            name if separator else "",
            tables["workers"].add(test["worker"]),
            test["attempt"],
            tables["outcomes"].add([outcome, in_words(outcome), is_bad(test)], outcome),
            tables["reasons"].add(test["reason"]),
            self._group_of.get(number, -1),
            [self._span(test, phase) for phase in PHASES],
            [int(phase in bad) for phase in PHASES],
            [self._device(each) for each in test["devices"]],
            [[tables["titles"].add(title), self._texts.add(text)] for title, text in _sections(test).items()],
            self._links(test["artifacts"]),
            [error["kind"], error["test_said"]] if error else 0,
            [_measured(metric) for metric in test["metrics"]],
            [[each["name"], each["value"]] for each in test["properties"]],
        ]

    def _span(self, test: TestData, phase: str) -> list[int] | int:
        if (found := test["phases"].get(phase)) is None:
            return 0
        return [self._since_start(found["start"]), round(1000 * (found["stop"] - found["start"]))]

    def _device(self, device: DeviceFacts) -> int:
        board = self._boards.add(device["exporter"])
        role, lease = self._tables["roles"].add(device["role"]), device["lease"]
        key = device["key"]
        labels = list((device["labels"] or {}).items())
        row = [role, board, lease, self._lease_at.get(key, -1), labels, device["state"]]
        return self._devices.add(row, (role, board, lease, key, device["state"]))

    def _lease(self, lease: LeaseTimes) -> list[object]:
        moments = (lease["asked"], lease["ready"], lease["prepared"] or lease["connected"], lease["released"])
        return [
            self._boards.add(lease["exporter"] if lease["ready"] else ""),
            self._tables["roles"].add(lease["role"]),
            self._tables["workers"].add(lease["worker"]),
            lease["lease"],
            *(None if moment is None else self._since_start(moment) for moment in moments),
            int(lease["is_adopted"]),
            lease["hook_failures"],
        ]

    def _state(self, times: StateTimes) -> list[object]:
        moments = (times["began"], times["reached"], times["left"])
        return [
            self._lease_at[times["lease"]],
            self._tables["roles"].add(times["role"]),
            times["state"],
            times["came_from"],
            *(None if moment is None else self._since_start(moment) for moment in moments),
            times["error"],
        ]

    def _since_start(self, moment: float) -> int:
        return round(1000 * (moment - self._start))


def _sections(test: TestData) -> dict[str, str]:
    """Return the texts of a test by title, its transfers included."""
    lines = [
        f"{real_time.clock(each['start'])} {each['role']} {each['driver']}: {each['kind']} {each['image']} "
        f"{each['outcome']}, {each['bytes']:,} bytes, {each['seconds']:.1f}s"
        for each in test["transfers"]
    ]
    return {**({"transfers": "\n".join(lines)} if lines else {}), **test["sections"]}


def _measured(metric: Metric) -> list[object]:
    """Return the name of a metric, its value with its limits, and whether it is not within them."""
    least, most = metric["min"], metric["max"]
    limits = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
    is_bad = (least is not None and metric["value"] < least) or (most is not None and metric["value"] > most)
    words = words_of(metric) + (f" ({', '.join(limits)})" if limits else "")
    return [metric_property(metric)[0].partition(".")[2], words, int(is_bad)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

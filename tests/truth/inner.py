"""Inner runs: a suite in a process of its own, and what it says of each test in each of its outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_jumpstarter.client.v1 import Client

from .harm import FOLDER, LAB

DEVICE_ERROR = "device error"
OTHER_ENDS = {"failed", "error", "errors", "skipped", "xfailed", "xpassed"}
"""In which a lost board may hide."""

EXIT_CODE = 8
_TIMEOUT = 240.0
_HIDDEN = ("JMP_", "JUMPSTARTER_", "PYTEST_", "CI", "BUILD_NUMBER", "FORCE_COLOR", "PY_COLORS", "GITHUB_")

INI = """\
[pytest]
jmp_client = {config}
jmp_selector = kind=dut
jmp_wait = 60s
jmp_ttl = 20s
jmp_order = off
jmp_console = retain-on-failure
"""
"""That the last one is said, not the default, lets consoles be recorded though no test opens one."""


@dataclass(kw_only=True)
class Seen:
    """
    What one inner run said, in the terminal, in the JSON and JUnit reports, and with its exit code.

    Attributes:
        folder: That of the suite.
        left: The names of the leases that it left behind.
    """

    code: int
    output: str = field(repr=False)
    folder: Path
    left: list[str]

    @property
    def last(self) -> str:
        """The last line of pytest's own."""
        return next((line for line in reversed(self.output.splitlines()) if line.startswith("=")), self.output)

    @property
    def counts(self) -> dict[str, int]:
        """What that line counts."""
        return {word: int(count) for count, word in re.findall(r"(\d+) ([a-z][a-z ]*?)(?=,| in )", self.last)}

    @cached_property
    def run(self) -> dict[str, Any]:
        """The JSON report."""
        path = self.folder / "run.json"
        assert path.exists(), self.output
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    @cached_property
    def suite(self) -> ET.Element:
        """The JUnit report."""
        return ET.parse(self.folder / "junit.xml").getroot()[0]

    def records(self, test: str) -> list[dict[str, Any]]:
        """Return what the JSON report says of each time that a test ran."""
        return [each for each in self.run["tests"] if each["id"] == test]

    def record(self, test: str) -> dict[str, Any]:
        """Return what it says of the last time."""
        assert self.records(test), f"{test} is not in {[each['id'] for each in self.run['tests']]}\n{self.output}"
        return self.records(test)[-1]

    def outcome(self, test: str) -> str:
        """Return how a test ended."""
        return str(self.record(test)["outcome"])

    def outcomes(self) -> dict[str, str]:
        """Return how each test ended, by its id without the file's folder."""
        return {each["id"].rpartition("/")[2]: each["outcome"] for each in self.run["tests"]}

    def case(self, test: str) -> ET.Element:
        """Return the one element of a test in the JUnit report."""
        *place, name = test.split("::")
        classname = ".".join([place[0].removesuffix(".py").replace("/", "."), *place[1:]])
        (found,) = (
            each
            for each in self.suite.iter("testcase")
            if (each.get("classname"), each.get("name")) == (classname, name)
        )
        return found

    def properties(self, test: str) -> dict[str, str]:
        """Return the JUnit properties of a test."""
        return {str(each.get("name")): str(each.get("value")) for each in self.case(test).iter("property")}

    def table(self) -> dict[str, tuple[int, int]]:
        """Return how many tests and how many device errors the terminal's table counts for each exporter."""
        rows = re.findall(r"^(\S+-\d+) +(\d+) +(\d+) +\S+ +\S+ +\d+%$", self.output, re.MULTILINE)
        return {name: (int(tests), int(errors)) for name, tests, errors in rows}

    def words_of(self, test: str) -> str:
        """Return all that the JSON report quotes for a test."""
        record = self.record(test)
        return "\n".join([record["reason"], *(record["device_error"] or {}).values(), *record["sections"].values()])


@dataclass(kw_only=True)
class Bench:
    """
    Runs suites in the lab.

    Args:
        config: The config of the lab's client.
        folder: Where the lab takes orders.
        python_path: Where an inner suite finds `harm`.
        root: Where folders for suites are made.
    """

    config: Path
    folder: Path
    python_path: str
    root: Path
    _number: int = field(default=0, init=False)

    def environ(self) -> dict[str, str]:
        """Return the environment of an inner run: nothing of whoever runs the outer tests."""
        ours = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
        return ours | {
            "PYTHONPATH": self.python_path,
            "XDG_CONFIG_HOME": str(self.root / "no-config"),
            "COLUMNS": "200",  # of tables
            LAB: str(self.config),
            FOLDER: str(self.folder),
        }

    def run(
        self,
        files: Mapping[str, str],
        *args: str,
        python: str = sys.executable,
        plugins: Collection[str] | None = (),
        environ: Mapping[str, str] | None = None,
        patience: float = 10.0,
    ) -> Seen:
        """
        Run a suite in a process of its own, and free the boards that it left leased.

        Args:
            files: The text of each, indented or not, by its name.
            args: For pytest.
            python: That of the environment in which it runs.
            plugins: The entry points of other plugins that are loaded, which takes its time; None for all.
            environ: More variables of the environment.
            patience: Seconds in which its leases must end, those that it transferred to somebody included.
        """
        self._number += 1
        folder = self.root / f"inner-{self._number}"
        for name, text in ({"pytest.ini": INI.format(config=self.config)} | dict(files)).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--jmp-report=run.json", "--junitxml=junit.xml"]
        given = self.environ() | dict(environ or {})
        if plugins is not None:
            given["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            options += [word for plugin in ("jumpstarter", *plugins) for word in ("-p", plugin)]
        done = subprocess.run(
            [python, "-m", "pytest", *options, *args],
            cwd=folder,
            env=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        left = self._free(patience)
        return Seen(code=done.returncode, output=done.stdout + done.stderr, folder=folder, left=left)

    def _free(self, patience: float) -> list[str]:
        """Wait until no lease is left, and delete those that are; return their names."""
        with Client.from_config(self.config) as client:
            deadline = time.monotonic() + patience
            while (left := list(client.list_leases())) and time.monotonic() < deadline:
                time.sleep(0.05)
            for lease in left:
                with Client.from_config(self.config.with_name(f"{lease.client}.yaml")) as owner:
                    owner.delete_lease(lease.name)
        return [lease.name for lease in left]


def assert_device_error(seen: Seen, test: str, *, role: str = "dut", exporter: str = r"board-\d") -> None:
    """See that every output calls a test a device error, names its board and has the evidence."""
    record = seen.record(test)
    assert record["outcome"] == DEVICE_ERROR, f"{test}: {record['outcome']} ({record['reason']})"
    fault = record["device_error"]
    assert re.fullmatch(exporter, fault["exporter"]), fault
    assert fault["lease"].startswith("pj-")
    (device,) = (each for each in record["devices"] if each["role"] == role)
    assert (device["exporter"], device["lease"]) == (fault["exporter"], fault["lease"])
    lines = seen.output.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith(f"DEVICE ERROR {test} ("))
    assert lines[head + 1].startswith(f"  device error on {fault['exporter']} (lease {fault['lease']}): ")
    case = seen.case(test)
    assert {(each.tag, each.get("type")) for each in case if each.tag not in ("properties", "system-out")} == {
        ("error", DEVICE_ERROR)
    }
    properties = seen.properties(test)
    assert properties[f"jumpstarter.{role}.exporter"] == fault["exporter"]
    assert properties[f"jumpstarter.{role}.lease"] == fault["lease"]


def assert_evidence(seen: Seen, test: str, *, role: str = "dut") -> None:
    """See that what the board said is in the terminal and in the folder of the test."""
    record = seen.record(test)
    exporter = record["devices"][0]["exporter"]
    title = f"console of {role} ({exporter})"
    assert title in record["sections"]
    after = seen.output.partition(f"DEVICE ERROR {test} (")[2].partition("\nDEVICE ERROR ")[0]
    assert title in after
    kept = record["artifacts"]
    facts = json.loads(Path(seen.folder, kept["root"], kept["folder"], "test.json").read_text())
    assert [(each["role"], each["exporter"]) for each in facts["devices"]] == [(role, exporter)]


def assert_nothing_of_a_board(seen: Seen, test: str) -> None:
    """See that no output knows of a board of this test."""
    record = seen.record(test)
    assert (record["devices"], record["device_error"], record["artifacts"]) == ([], None, None)
    titles = [title for title in record["sections"] if title.startswith(("console of ", "exporter log of "))]
    assert titles == []
    assert not any(name.startswith("jumpstarter.dut") for name in seen.properties(test))


def assert_all_is_counted(seen: Seen) -> None:
    """See that the terminal's table counts each test with a board, and each device error, at its exporter."""
    with_boards = [each for each in seen.run["tests"] if each["devices"]]
    errors = [each for each in seen.run["tests"] if each["device_error"]]
    assert sum(tests for tests, _ in seen.table().values()) == len(with_boards)
    assert sum(count for _, count in seen.table().values()) == len(errors)

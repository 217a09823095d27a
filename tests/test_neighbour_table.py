"""Beside each plugin of docs/neighbours.md, a suite with devices has the same results as without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbours import ELSEWHERE, NEIGHBOURS, Beside, Neighbour
from runs import AT_TERMINAL

from pytest_jumpstarter.client.v1 import Lease

TABLE = Path(__file__).parents[1] / "docs" / "neighbours.md"
CONSTRAINTS = Path(__file__).with_name("neighbours.txt")
SUITE = """
    import pytest

    lost = []

    def lose(dut, jumpstarter):
        jumpstarter.client.delete_lease(dut.lease.name)
        while True:
            dut.power.on()

    def test_pass(dut, console):
        dut.power.cycle()
        console.expect("login:")

    def test_fail(dut, console):
        dut.power.cycle()
        console.expect("login:")
        raise AssertionError("the product")

    def test_lost(dut, jumpstarter):
        lose(dut, jumpstarter)

    def test_retried(dut, jumpstarter):
        if not lost:
            lost.append(dut)
            lose(dut, jumpstarter)

    def test_skip(dut):
        pytest.skip("not today")
"""
RESULTS = {
    "test_pass": "passed",
    "test_fail": "failed",
    "test_lost": "device error",
    "test_retried": "passed",
    "test_skip": "skipped",
}


def pins() -> dict[str, str]:
    """Return the version of each package that is tested."""
    return dict(line.split("==") for line in CONSTRAINTS.read_text().split())


def beside(folder: Path, python: str, neighbour: Neighbour, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the suite beside a plugin, with the pytest that it needs."""
    command = [python, str(Path(__file__).with_name("run_beside.py")), ",".join((neighbour.package, *neighbour.needs))]
    environ = os.environ | {"TERM": "xterm"}
    if neighbour.pytest:
        older = Path(python).parents[1] / f"pytest-{neighbour.pytest}"
        assert older.is_dir(), f"pip install --no-deps --target {older} pytest=={neighbour.pytest}"
        environ |= {"PYTHONPATH": str(older)}
    return subprocess.run(
        [*(AT_TERMINAL if neighbour.is_at_terminal else ()), *command, "-p", "no:cacheprovider", *args],
        cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda each: " ".join((each.package, *each.args)))
def test_beside(
    suite: pytest.Pytester,
    neighbours: str,
    installed: Callable[[str], str],
    request: pytest.FixtureRequest,
    neighbour: Neighbour,
    active_leases: Callable[[], list[Lease]],
) -> None:
    """Pass, failure, lost board, retry and skip are what they are; nothing stays leased."""
    if not (neighbour.is_in_ci or request.config.getoption("full")):
        pytest.skip("only with --full")
    assert installed(neighbour.package) == pins()[neighbour.package], "not as in tests/neighbours.txt"
    suite.makepyfile(test_board=SUITE)
    for name, text in neighbour.more.items():
        (suite.path / name).write_text(text)
    ours = ("--jmp-selector=board=virtual", "--jmp-retries=2", "--jmp-report=run.json")
    done = beside(suite.path, neighbours, neighbour, *ours, *neighbour.args)
    output = done.stdout + done.stderr
    assert "INTERNALERROR" not in output, output
    if neighbour.refused:
        assert f"ERROR: {neighbour.refused}" in output
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, output
        suite.makepyfile(test_none="def test_none(): pass")
        done = beside(suite.path, neighbours, neighbour, *neighbour.args, "test_none.py")
        assert "collected 1 item" in done.stdout
        assert neighbour.refused not in done.stdout + done.stderr
        return
    assert done.returncode == 1, output
    seen = Beside(suite.path, output, json.loads((suite.path / "run.json").read_text())["tests"])
    last = {re.sub(r"\[.*", "", test["id"].rpartition("::")[2]): test["outcome"] for test in seen.tests}
    assert {name: last.pop(name) for name in RESULTS if name in last} == RESULTS, output
    assert last == {**dict.fromkeys(last, "passed"), **neighbour.results}, output
    assert bool(last) == any(name.startswith("test_") for name in neighbour.more), output
    for name, text in neighbour.shown:
        assert text in (seen.text(name) if name else output), output
    assert [words for words, holds in neighbour.checks.items() if not holds(seen)] == [], output
    if neighbour.orders:
        collected = beside(
            suite.path, neighbours, neighbour, "-pno:jumpstarter", "--collect-only", "-q", *neighbour.args
        )
        order = re.findall(r"^test_\w+\.py::\S+", collected.stdout, re.MULTILINE)
        assert list(dict.fromkeys(test["id"] for test in seen.tests)) == order
    assert active_leases() == []


def test_the_table() -> None:
    """docs/neighbours.md has a row for each, with the versions that are tested and what is asserted."""
    versions = pins()
    rows = [
        f"| {each.package} | {versions[each.package]} | {each.pytest or 'newest'} | {each.asserted} |"
        for each in NEIGHBOURS
    ]
    rows += [
        f"| {name} | {versions.get(name, '')} | newest | {what}: `{test}` |" for (name, what), test in ELSEWHERE.items()
    ]
    assert [line for line in TABLE.read_text().splitlines() if line.startswith("| ")][2:] == rows
    assert {each.package for each in NEIGHBOURS} == versions.keys()


@pytest.mark.parametrize("test", ELSEWHERE.values())
def test_elsewhere(test: str) -> None:
    """What the table names of other files is there."""
    file, _, name = test.partition("::")
    assert f"def {name}(" in (TABLE.parents[1] / file).read_text()

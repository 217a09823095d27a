"""Beside each plugin of docs/neighbours.md, a suite with devices has the same results as without it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbours import NEIGHBOURS, Neighbour

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
        console.sendline("root")
        console.expect("root")
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


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda each: " ".join((each.package, *each.args)))
def test_beside(
    suite: pytest.Pytester,
    neighbours: str,
    request: pytest.FixtureRequest,
    neighbour: Neighbour,
    active_leases: Callable[[], list[Lease]],
) -> None:
    """Pass, failure, lost board, retry and skip are what they are; nothing stays leased."""
    if not (neighbour.is_in_ci or request.config.getoption("full")):
        pytest.skip("only with --full")
    suite.makepyfile(test_board=SUITE)
    if neighbour.more:
        suite.path.joinpath("test_more.py").write_text(neighbour.more)
    run = Path(__file__).with_name("run_beside.py")
    ours = ("-p", "no:cacheprovider", "--jmp-selector=board=virtual", "--jmp-retries=2", "--jmp-report=run.json")
    packages = ",".join([neighbour.package, *neighbour.needs])
    command = [neighbours, str(run), packages, *ours, *neighbour.args]
    done = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=120, check=False)
    output = done.stdout + done.stderr
    if "PackageNotFoundError" in output:
        pytest.skip(f"{neighbour.package} is not installed beside {neighbours}")
    tests = json.loads((suite.path / "run.json").read_text())["tests"]
    last = {re.sub(r"\[.*", "", test["id"].rpartition("::")[2]): test["outcome"] for test in tests}
    assert {name: last.pop(name) for name in RESULTS if name in last} == RESULTS, output
    assert set(last.values()) == ({"passed"} if neighbour.more else set()), output
    assert done.returncode == 1, output
    assert "INTERNALERROR" not in output
    for name, text in neighbour.shown:
        assert text in (_text(suite.path / name) if name else output), output
    assert active_leases() == []


def _text(path: Path) -> str:
    """Return the text of a file, or of all files in a folder."""
    return path.read_text() if path.is_file() else "\n".join(each.read_text() for each in path.iterdir())


def test_the_table() -> None:
    """docs/neighbours.md has a row for each, with the version that is tested and what is asserted."""
    versions = dict(line.split("==") for line in CONSTRAINTS.read_text().split())
    rows = [f"| {each.package} | {versions[each.package]} | {each.asserted} |" for each in NEIGHBOURS]
    assert [line for line in TABLE.read_text().splitlines() if line.startswith("| ")][2:] == rows

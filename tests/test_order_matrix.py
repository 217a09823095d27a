"""Who has ordered the tests, against what could move: the order of others stays, test by test, in each process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest
from states_suite import CONFTEST

from pytest_jumpstarter.history.file import HistoryFile
from pytest_jumpstarter.history.results import Result, RunResults

WITNESS = """
import json, pytest
from pathlib import Path

@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    worker = getattr(session.config, "workerinput", {}).get("workerid", "main")
    Path(f"order-{worker}.json").write_text(json.dumps([item.nodeid for item in session.items]))

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item): return True
"""
"""Notes the order in which tests would run, and runs none."""


class Movable(NamedTuple):
    """
    A suite in which something moves if nobody has ordered.

    Attributes:
        modules: Its modules.
        args: The options with which it moves.
        workers: How many workers of xdist there are.
    """

    modules: Mapping[str, str]
    args: tuple[str, ...] = ()
    workers: int = 0


DEVICE_FIRST = {"test_1": "def test_dut(dut): pass\ndef test_more(dut): pass", "test_2": "def test_none(): pass"}
MOVABLE = {
    "module": Movable(DEVICE_FIRST),
    "class": Movable(
        {
            "test_1": "class TestDut:\n    def test_dut(self, dut): pass\ndef test_none(): pass",
            "test_2": "def test_dut(dut): pass",
        }
    ),
    "state": Movable(
        {"test_1": "def test_shell(shell): pass\ndef test_off(off): pass", "test_2": "def test_off(off): pass"}
    ),
    "longest": Movable(
        {"test_1": "def test_short(dut): pass", "test_2": "def test_long(dut): pass\ndef test_more(dut): pass"},
        ("--jmp-order=longest", "--jmp-history=past.db"),
        workers=1,
    ),
    "two workers": Movable(DEVICE_FIRST, workers=2),
}
REVERSING = "def pytest_collection_modifyitems(items): items.reverse()"
MARKING = """
def pytest_configure(config): config.addinivalue_line("markers", "{0}")
def pytest_itemcollected(item): item.add_marker("{0}")
"""


class Orderer(NamedTuple):
    """
    Somebody who orders.

    Attributes:
        conftest: What stands in the conftest.
        args: Options and arguments, by the ids of the tests as pytest collects them.
    """

    conftest: str = ""
    args: Callable[[Sequence[str]], Sequence[str]] = lambda _: ()


ORDERERS = {
    "conftest": Orderer(REVERSING),
    "plugin": Orderer(args=lambda _: ("-p", "reversing")),
    "files": Orderer(args=lambda _: ("test_2.py", "test_1.py")),
    "node ids": Orderer(args=lambda ids: ids[::-1]),
    "--ff": Orderer(args=lambda _: ("--ff",)),
    "--nf": Orderer(args=lambda _: ("--nf",)),
    "--stepwise": Orderer(args=lambda _: ("--stepwise",)),
    "marks of order": Orderer(MARKING.format("order")),
    "marks of dependencies": Orderer(MARKING.format("dependency")),
}


@pytest.fixture
def orders(suite: pytest.Pytester) -> Callable[..., list[list[str]]]:
    """Return what says in which order the tests of a suite would run, in each process that runs tests."""
    suite.makepyfile(reversing=REVERSING)
    suite.syspathinsert()
    took = [
        Result(f"test_2.py::{name}", "dut", "x", "", "passed", "", "", 0, 9, 0) for name in ("test_long", "test_more")
    ]
    facts = dict.fromkeys(("commit", "ci", "build", "job", "url"), "")
    past = RunResults(uuid="past", start=1, stop=2, **facts, results=took, leases=[])
    HistoryFile(suite.path / "past.db").write([past])

    def orders(movable: Movable, conftest: str, *args: str, workers: int = 0) -> list[list[str]]:
        suite.makeconftest("\n".join((CONFTEST, conftest, WITNESS)))
        suite.makepyfile(**movable.modules)
        if workers:
            suite.runpytest_subprocess(f"-n{workers}", *args)
        else:
            suite.runpytest_inprocess("--collect-only", *args)
        found = sorted(suite.path.glob("order-*.json"))
        read = [json.loads(path.read_text()) for path in found]
        for path in found:
            path.unlink()
        return read

    return orders


@pytest.mark.parametrize("movable", MOVABLE.values(), ids=MOVABLE)
def test_nobody(orders: Callable[..., list[list[str]]], movable: Movable) -> None:
    """Where nobody has ordered, something moves."""
    (written,) = orders(movable, "", "--jmp-order=off")
    found = orders(movable, "", *movable.args, workers=movable.workers)
    assert len(found) == max(movable.workers, 1)
    assert all(sorted(each) == sorted(written) and each != written for each in found)


@pytest.mark.parametrize("movable", MOVABLE.values(), ids=MOVABLE)
@pytest.mark.parametrize("orderer", ORDERERS.values(), ids=ORDERERS)
def test_order_stays(orders: Callable[..., list[list[str]]], orderer: Orderer, movable: Movable) -> None:
    """Whoever has ordered, whatever could move: the tests run in that order."""
    (written,) = orders(movable, "", "--jmp-order=off")
    args = orderer.args(written)
    (theirs,) = orders(movable, orderer.conftest, "--jmp-order=off", *args)
    found = orders(movable, orderer.conftest, *movable.args, *args, workers=movable.workers)
    assert found == [theirs] * max(movable.workers, 1)

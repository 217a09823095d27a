"""However a test got its board: the loss of it is a device error of that test, with all that goes with it."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import product

import pytest
from runs import part

from .inner import (
    EXIT_CODE,
    Bench,
    Seen,
    assert_all_is_counted,
    assert_device_error,
    assert_evidence,
    assert_nothing_of_a_board,
)
from .ways import CONFTEST, FORMS, NEIGHBOURS, NEXT, SELECTORS, WAYS, Module, module

Way = tuple[str, str]
"""How a test has its board, and what stands for it."""

SETUP_FORMS = [form for form in FORMS if form != "through a lookup of a module fixture"]
LOOKED_UP = ("signature", "lookup", "autouse", "unittest", "lookup in closure")
MATRIX: list[Way] = [
    *product(WAYS, SETUP_FORMS),
    *product(LOOKED_UP, ["through a lookup of a module fixture"]),
    *product(SELECTORS, ["fresh"]),
]
BESIDE_NEIGHBOURS: list[Way] = list(product(NEIGHBOURS, SETUP_FORMS))
"""Other plugins' ways."""


def files_of(modules: Collection[Module]) -> dict[str, str]:
    """Return all files of a suite."""
    return {"conftest.py": CONFTEST} | {name: text for each in modules for name, text in each.files.items()}


def assert_lost(seen: Seen, each: Module) -> None:
    """See that the test of a module is a device error in all outputs, and that the next one has nothing of it."""
    assert_device_error(seen, each.test, role=each.role)
    assert_evidence(seen, each.test, role=each.role)
    assert seen.outcome(each.next) == "failed"
    assert_nothing_of_a_board(seen, each.next)


@pytest.fixture(scope="module")
def matrix(bench: Bench) -> Seen:
    """Run a module for each way; each loses its board in a call, and its next test fails without one."""
    modules = [module(*way, after=NEXT) for way in MATRIX]
    return bench.run(files_of(modules), "--jmp-scope=module", "--doctest-modules", "--jmp-artifacts=out")


@pytest.mark.parametrize("way", MATRIX, ids=", ".join)
def test_loss_in_a_call(matrix: Seen, way: Way) -> None:
    """The loss is a device error with evidence and properties, and nothing of it is in the next test's sections."""
    assert_lost(matrix, module(*way, after=NEXT))


def test_all_are_counted(matrix: Seen) -> None:
    """The table counts each test at the exporter of its board, and each loss; no lease is left."""
    assert matrix.left == []
    assert_all_is_counted(matrix)
    assert matrix.run["summary"]["device_errors"] == len(MATRIX) + 1  # one way is that of a fixture with two selectors


@pytest.fixture(scope="module")
def beside_neighbours(bench: Bench, neighbours: str) -> Seen:
    """Run a module for each way that another plugin offers."""
    modules = [module(*way, after=NEXT) for way in BESIDE_NEIGHBOURS]
    return bench.run(files_of(modules), "--jmp-scope=module", "--jmp-artifacts=out", python=neighbours, plugins=None)


@pytest.mark.parametrize("way", BESIDE_NEIGHBOURS, ids=", ".join)
def test_loss_beside_neighbours(beside_neighbours: Seen, way: Way) -> None:
    """Steps of pytest-bdd, lazy fixtures and coroutines that have a board lose it like any other test."""
    assert_lost(beside_neighbours, module(*way, after=NEXT))


SOME: list[Way] = [
    ("signature", "fresh"),
    ("lookup", "set up before"),
    ("lookup", "through a lookup of a module fixture"),
    ("lookup in fixture", "through a lookup of a module fixture"),
    ("unittest", "through a module fixture"),
    ("usefixtures", "set up before"),
    ("doctest", "fresh"),
]
LOSSES = [
    *product(["kill_in_a_call", "block"], SOME),
    *part(["sleep_through", "transfer_away"], SOME[:4]),
]
BDD_AND_LAZY = ("pytest-bdd", "pytest_lazyfixture")
SOME_BESIDE_NEIGHBOURS: list[Way] = [("bdd step", "set up before"), ("bdd step", "fresh"), ("lazy fixture", "fresh")]
LOSSES_BESIDE_NEIGHBOURS = list(product(["kill_in_a_call", "block"], SOME_BESIDE_NEIGHBOURS))
SHORT_LEASES = ("--jmp-scope=module", "--jmp-ttl=6s", "--jmp-artifacts=out")


@pytest.fixture(scope="module")
def losses(bench: Bench) -> Seen:
    """Run a module for each kind of loss."""
    modules = [module(*way, lose=kind, after=NEXT) for kind, way in LOSSES]
    return bench.run(files_of(modules), *SHORT_LEASES, "--doctest-modules")


@pytest.mark.parametrize(("kind", "way"), LOSSES, ids=str)
def test_kinds_of_loss(losses: Seen, kind: str, way: Way) -> None:
    """A killed exporter, a lease that is deleted while the test sleeps or blocks, and a transfer are device errors."""
    assert_lost(losses, module(*way, lose=kind, after=NEXT))


def test_letters(losses: Seen) -> None:
    """Each loss stands in the progress as its letter, and is counted at its exporter; no lease is left."""
    letters = re.findall(r"^test_\w+\.py ([.DF]+) ", losses.output, re.MULTILINE)
    assert "".join(letters).count("D") == len(LOSSES)
    assert_all_is_counted(losses)
    assert losses.left == []


@pytest.fixture(scope="module")
def losses_beside_neighbours(bench: Bench, neighbours: str) -> Seen:
    """Run a module for each kind of loss that a scenario or a lazy fixture meets; nothing else goes wrong."""
    modules = [module(*way, lose=kind) for kind, way in LOSSES_BESIDE_NEIGHBOURS]
    return bench.run(files_of(modules), *SHORT_LEASES, python=neighbours, plugins=BDD_AND_LAZY)


@pytest.mark.parametrize(("kind", "way"), LOSSES_BESIDE_NEIGHBOURS, ids=str)
def test_kinds_of_loss_beside_neighbours(losses_beside_neighbours: Seen, kind: str, way: Way) -> None:
    """So they are where a step or a lazy fixture has the board."""
    test = module(*way, lose=kind).test
    assert_device_error(losses_beside_neighbours, test)
    assert_evidence(losses_beside_neighbours, test)


def test_exit_code(losses_beside_neighbours: Seen) -> None:
    """Where losses are all that went wrong the exit code says so."""
    assert losses_beside_neighbours.code == EXIT_CODE, losses_beside_neighbours.last
    assert losses_beside_neighbours.run["summary"]["device_errors"] == len(LOSSES_BESIDE_NEIGHBOURS)
    assert losses_beside_neighbours.left == []


HOOKED: list[Way] = [
    ("signature", "fresh"),
    ("lookup", "fresh"),
    ("lookup in closure", "fresh"),
    ("lookup in autouse", "fresh"),
    ("unittest", "through a lookup of a module fixture"),
    ("doctest", "fresh"),
]


@pytest.fixture(scope="module")
def hook_failures(bench: Bench) -> Seen:
    """Run modules that ask for a board whose beforeLease hook fails."""
    modules = [module(*way) for way in HOOKED]
    options = ("--jmp-selector=board=broken", "--jmp-scope=module", "--doctest-modules")
    return bench.run(files_of(modules), *options)


@pytest.mark.parametrize("way", HOOKED, ids=", ".join)
def test_hook_fails(hook_failures: Seen, way: Way) -> None:
    """A board whose hook fails is a device error of the test that asks for it, with the words of the hook."""
    test = module(*way).test
    assert_device_error(hook_failures, test, exporter="hook-1")
    assert "the relay card is stuck" in hook_failures.record(test)["device_error"]["reason"]


def test_exit_code_after_hooks(hook_failures: Seen) -> None:
    """Where hooks are all that failed the exit code says so, whoever asked for the board."""
    assert hook_failures.code == EXIT_CODE, hook_failures.last


RETRIED: list[Way] = [
    ("signature", "through a lookup of a module fixture"),
    ("lookup", "fresh"),
    ("lookup", "set up before"),
    ("lookup", "through a module fixture"),
    ("lookup in closure", "set up before"),
    ("lookup in autouse", "set up before"),
    ("lookup for unittest", "through a module fixture"),
    ("class attribute", "through a lookup of a module fixture"),
    ("usefixtures", "set up before"),
    ("doctest", "set up before"),
]
"""As many as there are boards for, see `BOARDS`."""
RETRIED_BESIDE_NEIGHBOURS: list[Way] = [("bdd step", "set up before"), ("lazy fixture", "fresh")]


def assert_retried(seen: Seen, each: Module) -> None:
    """See that a test lost its board, ran again on another one, and passed; and that the next one has nothing of it."""
    first, second = seen.records(each.test)
    assert (first["outcome"], second["outcome"]) == ("rerun", "passed"), second["reason"]
    (lost,), (found,) = first["devices"], second["devices"]
    assert lost["lease"] != found["lease"]
    name = each.test.rpartition("::")[2]
    assert re.search(
        rf"^retried: {re.escape(name)} on {lost['exporter']} \(.*\) -> {found['exporter']}$", seen.output, re.M
    )
    assert any(title.startswith("console of dut") for title in first["sections"])
    assert seen.properties(each.test)["jumpstarter.dut.exporter"] == found["exporter"]
    assert "jumpstarter.retried" in seen.properties(each.test)
    assert seen.outcome(each.next) == "failed"
    assert_nothing_of_a_board(seen, each.next)


@pytest.fixture(scope="module")
def retries(bench: Bench) -> Seen:
    """Run modules whose tests lose their board once, in a run that retries device errors."""
    modules = [module(*way, lose="lose_once", after=NEXT) for way in RETRIED]
    return bench.run(files_of(modules), "--jmp-retries=1", "--doctest-modules", "-rA")


def boards_of(seen: Seen, each: Module) -> tuple[str, str]:
    """Return the boards on which a retried test ran."""
    first, second = (record["devices"][0]["exporter"] for record in seen.records(each.test))
    return first, second


def test_retries_are_on_other_boards(retries: Seen) -> None:
    """A retry avoids the board that was lost, as long as another one is free."""
    boards = [boards_of(retries, module(*way, lose="lose_once", after=NEXT)) for way in RETRIED]
    assert sum(first != second for first, second in boards) > len(RETRIED) / 2


@pytest.mark.parametrize("way", RETRIED, ids=", ".join)
def test_retry_on_another_board(retries: Seen, way: Way) -> None:
    """A test that lost its board runs again on another one, also where a session's board stood before."""
    assert_retried(retries, module(*way, lose="lose_once", after=NEXT))


RETRIED_LOSSES = [("kill_once", ("signature", "fresh")), ("transfer_once", ("lookup", "set up before"))]


@pytest.fixture(scope="module")
def retries_of_kinds(bench: Bench) -> Seen:
    """Run modules whose tests lose their board once in other ways, in a run that retries device errors."""
    modules = [module(*way, lose=kind, after=NEXT) for kind, way in RETRIED_LOSSES]
    return bench.run(files_of(modules), "--jmp-retries=1", "--jmp-ttl=6s")


@pytest.mark.parametrize(("kind", "way"), RETRIED_LOSSES, ids=str)
def test_retry_after_kinds_of_loss(retries_of_kinds: Seen, kind: str, way: Way) -> None:
    """So does one whose exporter was killed, or whose lease went to somebody else."""
    each = module(*way, lose=kind, after=NEXT)
    assert_retried(retries_of_kinds, each)
    first, second = boards_of(retries_of_kinds, each)
    assert first != second


def test_no_loss_is_left_after_retries(retries: Seen) -> None:
    """Where each second attempt passes, only the next tests fail."""
    assert retries.code == pytest.ExitCode.TESTS_FAILED
    assert f"{len(RETRIED)} failed" in retries.last
    assert retries.left == []
    assert not [each["id"] for each in retries.run["tests"] if each["outcome"] == "device error"]


@pytest.fixture(scope="module")
def retries_beside_neighbours(bench: Bench, neighbours: str) -> Seen:
    """Run scenarios and lazy fixtures that lose their board once, in a run that retries device errors."""
    modules = [module(*way, lose="lose_once", after=NEXT) for way in RETRIED_BESIDE_NEIGHBOURS]
    return bench.run(files_of(modules), "--jmp-retries=1", python=neighbours, plugins=BDD_AND_LAZY)


@pytest.mark.parametrize("way", RETRIED_BESIDE_NEIGHBOURS, ids=", ".join)
def test_retry_beside_neighbours(retries_beside_neighbours: Seen, way: Way) -> None:
    """A scenario, and a test with a lazy fixture, that lost its board runs again on another one."""
    assert_retried(retries_beside_neighbours, module(*way, lose="lose_once", after=NEXT))


def test_under_xdist(bench: Bench) -> None:
    """What a worker finds out of a board that was looked up reaches the process that prints."""
    ways = [("lookup", "set up before"), ("usefixtures", "through a module fixture"), ("lookup in autouse", "fresh")]
    modules = [module(*way) for way in ways]
    options = ("-n2", "--dist=loadfile", "--jmp-scope=module", "--jmp-artifacts=out")
    seen = bench.run(files_of(modules), *options, plugins=["xdist"])
    for each in modules:
        assert_device_error(seen, each.test)
        assert_evidence(seen, each.test)
    assert seen.code == EXIT_CODE
    assert_all_is_counted(seen)


def test_board_of_a_failure_is_held(bench: Bench) -> None:
    """`--jmp-hold-on-failure` holds the board that a failed test looked up, which an earlier test had set up."""
    suite = """
        def test_first(dut): dut.power.on()
        def test_it(request):
            assert request.getfixturevalue("dut") is None
        def test_later(dut): pass
    """
    seen = bench.run({"test_it.py": suite}, "--jmp-hold-on-failure=2m", patience=0)
    assert "1 failed, 1 passed" in seen.last
    (held,) = seen.left
    assert f"--lease {held}\n" in seen.output

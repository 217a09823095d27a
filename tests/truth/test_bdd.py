"""`--jmp-check` and `--collect-only` on tests whose boards no signature tells: they are named, not passed over."""

from __future__ import annotations

import re
import sys

import pytest

from .inner import Bench, Seen

FEATURES = {
    "boot.feature": """
        Feature: Boot
          Background:
            Given a powered board
          Scenario: it boots
            Then the console shows login:
          Scenario Outline: it boots from
            When it boots from <medium>
            Then the console shows login:
            Examples:
              | medium |
              | flash  |
              | net    |
    """,
    "paper.feature": """
        Feature: Paper
          Scenario: it is written down
            Given a sheet of paper
    """,
    "conftest.py": """
        from pytest_bdd import given, parsers, then, when
        @given("a powered board")
        def _(dut): dut.power.on()
        @when(parsers.parse("it boots from {medium}"))
        def _(dut, medium): dut.power.cycle()
        @then(parsers.parse("the console shows {what}"))
        def _(console, what): console.expect(what)
        @given("a sheet of paper")
        def _(): pass
    """,
    "test_boot.py": """
        from pytest_bdd import scenarios
        scenarios("boot.feature", "paper.feature")
    """,
}
SCENARIOS = ("test_it_boots", "test_it_boots_from")

LOOKUPS = {
    "test_lookups.py": """
        import unittest
        import pytest

        def test_looks_up(request):
            request.getfixturevalue("dut")

        @pytest.mark.parametrize("name", ["dut"])
        def test_looks_up_what_a_parameter_says(request, name):
            request.getfixturevalue(name)

        @pytest.fixture
        def powered(request):
            return request.getfixturevalue("d" + "ut")
        def test_fixture_looks_up(powered): pass

        @pytest.fixture(scope="class")
        def board(request):
            request.cls.board = request.getfixturevalue("dut")
        @pytest.mark.usefixtures("board")
        class TestUnit(unittest.TestCase):
            def test_class_looks_up(self): pass

        def documented():
            \"""
            >>> getfixture("dut").power.on()
            \"""
    """,
}
LOOKED_UP = (
    "test_looks_up",
    "test_looks_up_what_a_parameter_says",
    "test_fixture_looks_up",
    "test_class_looks_up",
    "test_lookups.documented",
)

PLAIN = {
    "test_plain.py": """
        import pytest
        def test_built_in(tmp_path, capsys, monkeypatch, caplog, recwarn, pytestconfig, record_property): pass
        @pytest.fixture
        def plain(): return 1
        def test_fixture(plain): pass
    """,
}


def checked(bench: Bench, files: dict[str, str], *args: str, python: str) -> str:
    """Return what `--jmp-check` says, without what pytest says before."""
    seen = bench.run(files, "--jmp-check", *args, python=python, plugins=_plugins(python))
    assert "INTERNALERROR" not in seen.output
    assert " jumpstarter check " in seen.output, seen.output
    return seen.output.partition(" jumpstarter check ")[2]


def collected(bench: Bench, files: dict[str, str], *args: str, python: str) -> str:
    """Return what `--collect-only` shows of devices, below the tests."""
    seen = bench.run(files, "--collect-only", *args, python=python, plugins=_plugins(python))
    assert seen.code == pytest.ExitCode.OK, seen.output
    return seen.output.partition(" jumpstarter: devices ")[2]


def _plugins(python: str) -> list[str]:
    """Return those that a suite needs, in the environment that has them."""
    return ["pytest-bdd", "pytest_lazyfixture"] if python != sys.executable else []


def named(text: str, tests: tuple[str, ...]) -> list[str]:
    """Return those tests that a text names."""
    return [test for test in tests if re.search(rf"\b{re.escape(test)}\b", text)]


def is_told(sheet: str, tests: tuple[str, ...]) -> bool:
    """Tell whether a check has looked for the board of these tests, or names each that it cannot see into."""
    return re.search(r"^dut +kind=dut +\d+ +\d+ ", sheet, re.MULTILINE) is not None or named(sheet, tests) == [*tests]


def test_check_of_scenarios(bench: Bench, neighbours: str) -> None:
    """A suite of pytest-bdd is not one without devices: its role is looked for, or its scenarios are named."""
    sheet = checked(bench, FEATURES, python=neighbours)
    assert "no test needs a device" not in sheet
    assert is_told(sheet, SCENARIOS), sheet


def test_collection_of_scenarios(bench: Bench, neighbours: str) -> None:
    """Each scenario stands below the collected tests, with its role, or among those that cannot be seen into."""
    listed = collected(bench, FEATURES, python=neighbours)
    assert named(listed, SCENARIOS) == [*SCENARIOS], listed


def test_check_of_scenarios_beside_other_tests(bench: Bench, neighbours: str) -> None:
    """Scenarios are told also where the boards of other tests are known, and are not counted among these."""
    files = FEATURES | {"test_other.py": "def test_other(dut): pass"}
    sheet = checked(bench, files, python=neighbours)
    before, _, told = sheet.partition("not checked: may ask for more devices while it runs")
    assert re.search(r"^dut +kind=dut +\d+ +\d+ ", before, re.MULTILINE), sheet
    told, _, end = told.partition("\ntests that need devices: ")
    listed = re.findall(r"^  test_boot\.py::(\w+)", told, re.MULTILINE)
    assert set(listed) >= set(SCENARIOS), sheet
    assert named(sheet, ("test_other",)) == []
    assert end.startswith("1; all can get theirs"), sheet


def test_check_of_lazy_fixtures(bench: Bench, neighbours: str) -> None:
    """A test whose parameter names a device fixture is not one without devices."""
    suite = """
        import pytest
        from pytest_lazy_fixtures import lf
        @pytest.mark.parametrize("board", [lf("dut")], ids=["lazy"])
        def test_lazy(board): pass
    """
    sheet = checked(bench, {"test_lazy.py": suite}, python=neighbours)
    assert "no test needs a device" not in sheet
    assert is_told(sheet, ("test_lazy",)), sheet


def test_check_of_lookups(bench: Bench) -> None:
    """Tests that look fixtures up by name, themselves or by a fixture or a doctest, are told."""
    sheet = checked(bench, LOOKUPS, "--doctest-modules", python=sys.executable)
    assert "no test needs a device" not in sheet
    assert is_told(sheet, LOOKED_UP), sheet


def test_collection_of_lookups(bench: Bench) -> None:
    """Each of them stands below the collected tests."""
    listed = collected(bench, LOOKUPS, "--doctest-modules", python=sys.executable)
    assert named(listed, LOOKED_UP) == [*LOOKED_UP], listed


def test_tests_that_look_nothing_up(bench: Bench) -> None:
    """Fixtures of pytest itself, and plain ones, are no reason for doubt."""
    assert "no test needs a device" in checked(bench, PLAIN, python=sys.executable)
    assert collected(bench, PLAIN, python=sys.executable) == ""


def test_silent_where_nothing_of_ours_is_used(pytester: pytest.Pytester) -> None:
    """A suite that has neither settings nor fixtures of ours is shown nothing, whatever it looks up."""
    pytester.makepyfile("def test_it(request): request.getfixturevalue('tmp_path')")
    result = pytester.runpytest("--collect-only")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*jumpstarter*:*")


@pytest.fixture(scope="module")
def ran(bench: Bench, neighbours: str) -> Seen:
    """Run scenarios of which one fails by itself, and one loses its board in its first step."""
    files = {
        "board.feature": """
            Feature: Board
              Scenario: passes
                Given a powered board
              Scenario: fails
                Given a powered board
                Then it flies
              Scenario: loses it
                Given a board that goes away
                Then it flies
              Scenario: swallows it
                Given a board that goes away, which nobody minds
              Scenario: without
                Given nothing
        """,
        "test_board.py": """
            import contextlib
            from pytest_bdd import given, scenarios, then
            from harm import lose, touch
            scenarios("board.feature")
            @given("a powered board")
            def _(dut): dut.power.on()
            @then("it flies")
            def _(dut): assert dut is None
            @given("a board that goes away")
            def _(dut):
                lose(dut)
                touch(dut)
            @given("a board that goes away, which nobody minds")
            def _(dut):
                lose(dut)
                with contextlib.suppress(Exception):
                    touch(dut)
            @given("nothing")
            def _(): pass
        """,
    }
    return bench.run(files, "--jmp-scope=function", python=neighbours, plugins=_plugins(neighbours))


@pytest.mark.parametrize(
    ("scenario", "end", "boards"),
    [
        ("passes", "passed", 1),
        ("fails", "failed", 1),
        ("loses_it", "device error", 1),
        ("swallows_it", "device error", 1),
        ("without", "passed", 0),
    ],
)
def test_scenario(ran: Seen, scenario: str, end: str, boards: int) -> None:
    """A scenario ends as its steps say, unless its board was lost, and has the board of its steps."""
    record = ran.record(f"test_board.py::test_{scenario}")
    assert (record["outcome"], len(record["devices"])) == (end, boards), record["reason"]

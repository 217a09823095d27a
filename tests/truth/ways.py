"""The ways in which a test has a board, as modules of inner suites, which lose it."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

CONFTEST = """
    import pytest

    @pytest.fixture(scope="module")
    def over(dut):
        return dut

    @pytest.fixture(scope="module")
    def looked_up(request):
        return request.getfixturevalue("dut")
"""

# How a test has what fixture NAME returns; LOSE is called with it. The last word is the test's own id.
WAYS = {
    "signature": (
        """
        def test_it(NAME):
            LOSE(NAME)
        """,
        "test_it",
    ),
    "fixture": (
        """
        @pytest.fixture
        def powered(NAME):
            return NAME
        def test_it(powered):
            LOSE(powered)
        """,
        "test_it",
    ),
    "lookup": (
        """
        def test_it(request):
            LOSE(request.getfixturevalue("NAME"))
        """,
        "test_it",
    ),
    "lookup in fixture": (
        """
        @pytest.fixture
        def powered(request):
            return request.getfixturevalue("NAME")
        def test_it(powered):
            LOSE(powered)
        """,
        "test_it",
    ),
    "lookup in closure": (
        """
        @pytest.fixture(scope="module")
        def look(request):
            return lambda: request.getfixturevalue("NAME")
        def test_it(look):
            LOSE(look())
        """,
        "test_it",
    ),
    "autouse": (
        """
        class TestIt:
            @pytest.fixture(autouse=True)
            def _board(self, NAME):
                self.board = NAME
            def test_it(self):
                LOSE(self.board)
        """,
        "TestIt::test_it",
    ),
    "lookup in autouse": (
        """
        class TestIt:
            @pytest.fixture(autouse=True)
            def _board(self, request):
                self.board = request.getfixturevalue("NAME")
            def test_it(self):
                LOSE(self.board)
        """,
        "TestIt::test_it",
    ),
    "indirect": (
        """
        @pytest.fixture
        def powered(request):
            return request.getfixturevalue(request.param)
        @pytest.mark.parametrize("powered", ["NAME"], indirect=True)
        def test_it(powered):
            LOSE(powered)
        """,
        "test_it[NAME]",
    ),
    "class attribute": (
        """
        class TestIt:
            @pytest.fixture(scope="class", autouse=True)
            def _board(self, request, NAME):
                request.cls.board = NAME
            def test_it(self):
                LOSE(self.board)
        """,
        "TestIt::test_it",
    ),
    "unittest": (
        """
        @pytest.fixture(scope="class")
        def board(request, NAME):
            request.cls.board = NAME
        @pytest.mark.usefixtures("board")
        class TestIt(unittest.TestCase):
            def test_it(self):
                LOSE(self.board)
        """,
        "TestIt::test_it",
    ),
    "lookup for unittest": (
        """
        @pytest.fixture(scope="class")
        def board(request):
            request.cls.board = request.getfixturevalue("NAME")
        @pytest.mark.usefixtures("board")
        class TestIt(unittest.TestCase):
            def test_it(self):
                LOSE(self.board)
        """,
        "TestIt::test_it",
    ),
    "usefixtures": (
        """
        boards = []
        @pytest.fixture
        def board(request):
            boards.append(request.getfixturevalue("NAME"))
        @pytest.mark.usefixtures("board")
        def test_it():
            LOSE(boards[-1])
        """,
        "test_it",
    ),
    "doctest": (
        """
        def a_first():
            \"""
            >>> getfixture("NAME").power.on()
            \"""
        def b_it():
            \"""
            >>> LOSE(getfixture("NAME"))
            \"""
        """,
        "MODULE.b_it",
    ),
}

SELECTORS = {
    "parameter of dut": (
        """
        @pytest.mark.parametrize("dut", ["kind=dut,!slow"], indirect=True)
        def test_it(dut):
            LOSE(dut)
        """,
        "test_it[kind=dut,!slow]",
    ),
    "several selectors": (
        """
        from pytest_jumpstarter import device_fixture
        board = device_fixture(selectors=["kind=dut,!old", "kind=dut,!new"], scope="module")
        def test_it(board):
            LOSE(board)
        """,
        "test_it[kind=dut,!old]",
    ),
    "override that builds on it": (
        """
        @pytest.fixture
        def dut(dut):
            return dut
        def test_it(dut):
            LOSE(dut)
        """,
        "test_it",
    ),
    "console alone": (
        """
        def test_it(console, jumpstarter):
            jumpstarter.client.delete_lease(jumpstarter.leases[0].name)
            console.expect("never", timeout=60)
        """,
        "test_it",
    ),
    "console by lookup": (
        """
        def test_it(request, jumpstarter):
            console = request.getfixturevalue("console")
            jumpstarter.client.delete_lease(jumpstarter.leases[0].name)
            console.expect("never", timeout=60)
        """,
        "test_it",
    ),
    "base class": (
        """
        from pytest_jumpstarter import JumpstarterTest
        class TestIt(JumpstarterTest):
            selector = "kind=dut,!base"
            def test_it(self, client, jumpstarter):
                jumpstarter.client.delete_lease(jumpstarter.leases[0].name)
                while True:
                    client.power.on()
        """,
        "TestIt::test_it",
    ),
}
"""Ways that are about the device fixture itself."""

# With the plugins of the neighbours.
STEPS = """
from pytest_bdd import given, scenarios, when
scenarios("MODULE.feature")
@given("a powered board")
def _(NAME): NAME.power.on()
"""
NEIGHBOURS = {
    "bdd step": (
        STEPS
        + """
@when("it is lost")
def _(NAME): LOSE(NAME)
""",
        "test_it",
    ),
    "bdd target": (
        STEPS
        + """
@given("the board", target_fixture="board")
def _(NAME): return NAME
@when("it is lost")
def _(board): LOSE(board)
""",
        "test_it",
    ),
    "lazy fixture": (
        """
        from pytest_lazy_fixtures import lf
        @pytest.mark.parametrize("board", [lf("NAME")], ids=["lazy"])
        def test_it(board):
            LOSE(board)
        """,
        "test_it[lazy]",
    ),
    "lazy parameter": (
        """
        from pytest_lazy_fixtures import lf
        @pytest.fixture(params=[lf("NAME")], ids=["lazy"])
        def board(request):
            return request.param
        def test_it(board):
            LOSE(board)
        """,
        "test_it[lazy]",
    ),
    "lookup in a coroutine": (
        """
        @pytest.mark.asyncio
        async def test_it(request):
            LOSE(request.getfixturevalue("NAME"))
        """,
        "test_it",
    ),
}
FEATURE = """
Feature: Board
  {first}
  Scenario: it
    Given {given}
    When it is lost
"""

# Which fixture stands for the board, and what ran before.
FORMS = {
    "fresh": ("dut", ""),
    "set up before": ("dut", "def test_first(dut): dut.power.on()"),
    "through a module fixture": ("over", "def test_first(over): over.power.on()"),
    "through a lookup of a module fixture": ("looked_up", "def test_first(looked_up): looked_up.power.on()"),
}

NEXT = """
def test_next():
    assert 0, "the next test, which has no board"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """
    One module of an inner suite.

    Attributes:
        files: The text of each file, by its name.
        test: The id of the test that loses its board.
        role: That of the board.
        next: The id of the next test, which has no board.
    """

    files: dict[str, str]
    test: str
    next: str
    role: str = "dut"


def module(way: str, form: str, *, lose: str = "lose_in_a_call", after: str = "") -> Module:
    """Return a module whose test has its board in a way, and loses it by a function of `harm`."""
    source, test = (WAYS | SELECTORS | NEIGHBOURS)[way]
    name, before = FORMS[form]
    kind = "" if lose == "lose_in_a_call" else f"{lose}_"
    stem = f"test_{kind}{way}_{form}".replace(" ", "_")
    head = f"import unittest\nimport pytest\nfrom harm import {lose} as LOSE\n"
    text = "\n".join([head, before, dedent(source), after]).replace("NAME", name).replace("MODULE", stem)
    files = {f"{stem}.py": text}
    if way.startswith("bdd"):
        first = "Scenario: first\n    Given a powered board" if before else ""
        given = "the board" if way == "bdd target" else "a powered board"
        files[f"{stem}.feature"] = FEATURE.format(first=first, given=given)
    test = test.replace("NAME", name).replace("MODULE", stem)
    role = "board" if way == "several selectors" else "dut"
    return Module(files=files, test=f"{stem}.py::{test}", role=role, next=f"{stem}.py::test_next")

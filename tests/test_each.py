"""Tests on several boards: each kind, or each exporter; and whose `dut` it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_jumpstarter.client.v1 import Lease

ActiveLeases = Callable[[], list[Lease]]

KINDS = """
    from pytest_jumpstarter import device_fixture
    board = device_fixture(selectors=["kind=dut", "board=mock"])
"""


def passed(result: pytest.RunResult) -> list[str]:
    """Return the names of the tests that passed, with their ids."""
    return sorted(line.split("::")[1].split(" ")[0] for line in result.outlines if " PASSED" in line)


def test_each_kind(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """The tests run on each kind of board, with its selector in their names."""
    suite.makeconftest(KINDS)
    suite.makepyfile("def test_a(board): board.power.on()\ndef test_b(board): assert board.exporter.name != 'board-2'")
    result = suite.runpytest("-v")
    assert passed(result) == [
        "test_a[board=mock]", "test_a[kind=dut]", "test_b[board=mock]", "test_b[kind=dut]",
    ]  # fmt: skip
    assert active_leases() == []


def test_a_setting_takes_the_place_of_kinds(suite: pytest.Pytester) -> None:
    """With a selector for the role the tests run once; a marker of their own stands above both."""
    suite.makeconftest(KINDS)
    suite.makepyfile(
        """
        import pytest
        def test_a(board): assert board.exporter.name == "board-2"
        @pytest.mark.parametrize("board", ["board=mock"], indirect=True)
        def test_b(board): assert board.exporter.name == "mock-1"
        """
    )
    result = suite.runpytest("-v", "--jmp-selector=board:kind=gateway")
    assert passed(result) == ["test_a", "test_b[board=mock]"]


@pytest.mark.parametrize("args", [(), ("-n2",)], ids=["one process", "xdist"])
def test_each_exporter(suite: pytest.Pytester, active_leases: ActiveLeases, args: tuple[str, ...]) -> None:
    """The tests run once on every exporter that matches, whatever the fixture says, in any number of processes."""
    suite.makepyfile("def test_it(dut, request): assert dut.exporter.name == request.node.callspec.id")
    result = suite.runpytest("-v", "--jmp-each=board=virtual", *args)
    result.assert_outcomes(passed=2)
    if not args:
        assert passed(result) == ["test_it[board-1]", "test_it[board-2]"]
    assert active_leases() == []


def test_each_in_the_embedded_lab(pytester: pytest.Pytester) -> None:
    """The lab that the run itself starts is there when the tests are collected."""
    document = (
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {{name: {0}, labels: {{board: x}}}}\n"
        "export: {{power: {{type: jumpstarter_driver_power.driver.MockPower}}}}\n"
    )
    (pytester.path / "lab.yaml").write_text("---\n".join(map(document.format, ("one", "two"))))
    pytester.makepyfile("def test_it(dut): dut.power.on()")
    result = pytester.runpytest("-v", "--jmp-lab=lab.yaml", "--jmp-each=board=x")
    assert passed(result) == ["test_it[one]", "test_it[two]"]


def test_each_matches_nothing(suite: pytest.Pytester) -> None:
    """A selector that no exporter matches ends the run before it begins, and says what there is."""
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest("--jmp-each=board=rpi5")
    assert result.ret != 0
    (result.stdout if "board=rpi5" in result.stdout.str() else result.stderr).fnmatch_lines(
        ["*--jmp-each: no exporter matches board=rpi5; the lab has board=*virtual (2)*"]
    )


OTHER = """
    import pytest
    @pytest.fixture
    def dut(): return "theirs"
"""


def test_dut_of_another_plugin(pytester: pytest.Pytester, suite: pytest.Pytester) -> None:
    """Where nothing of ours is set another plugin's `dut` is used; else ours, whoever was loaded first."""
    suite.makepyfile(other=OTHER, test_it="def test_it(dut): assert dut != 'theirs'")
    suite.syspathinsert()
    suite.runpytest("-p", "other").assert_outcomes(passed=1)
    (suite.path / "tox.ini").write_text("[pytest]\n")
    suite.makepyfile(test_it="def test_it(dut): assert dut == 'theirs'")
    suite.runpytest("-p", "other").assert_outcomes(passed=1)


def test_bad_kind(pytester: pytest.Pytester) -> None:
    """A selector that does not parse is an error of the conftest that says so."""
    pytester.makeconftest("from pytest_jumpstarter import device_fixture\nx = device_fixture(selectors=['a b'])")
    result = pytester.runpytest()
    result.stderr.fnmatch_lines(["*device_fixture: selector 'a b' does not parse*"])

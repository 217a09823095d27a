"""The table of docs/neighbours.md: other plugins, and how a suite with devices runs beside each."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """
    One row.

    Attributes:
        package: Its package.
        needs: Other packages whose plugins it needs.
        args: Arguments that make it do something.
        more: A test module that uses it; all of its tests pass.
        shown: What the output or a file contains, by the file's name; the output has an empty name.
        is_in_ci: Whether every run of the tests includes it; the others need `--full`.
    """

    package: str
    needs: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    more: str = ""
    shown: tuple[tuple[str, str], ...] = ()
    is_in_ci: bool = False

    @property
    def asserted(self) -> str:
        """What is asserted, in words for the table."""
        words = ["five tests"]
        words += [f"`{' '.join(self.args)}`"] if self.args else []
        words += ["tests that use it"] if self.more else []
        words += [f"`{text}` in {name or 'the output'}" for name, text in self.shown]
        return ", ".join(words)


def suite(text: str) -> str:
    """Return the text of a test module."""
    return dedent(text).strip() + "\n"


NEIGHBOURS = [
    Neighbour(
        package="allure-pytest",
        args=("--alluredir=al",),
        shown=(("al", '"name": "exporter"'), ("al", "console of dut"), ("al", '"status": "broken"')),
        is_in_ci=True,
    ),
    Neighbour(package="anyio", more=suite("""
        import pytest
        pytestmark = pytest.mark.anyio
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(package="freezegun", more=suite("""
        from datetime import datetime
        from freezegun import freeze_time
        @freeze_time("2020-01-01")
        def test_frozen(dut, console):
            dut.power.cycle()
            console.expect("login:")
            assert datetime.now().year == 2020
    """)),
    Neighbour(package="hypothesis", more=suite("""
        import pytest
        from hypothesis import given, settings, strategies, HealthCheck
        @settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(strategies.booleans())
        def test_given(dut, is_on): (dut.power.on if is_on else dut.power.off)()
    """)),
    Neighbour(package="pyfakefs", more=suite("""
        from pathlib import Path
        def test_fake(fs, dut, console):
            Path("/only-here").write_text("fake")
            dut.power.cycle()
            console.expect("login:")
            assert Path("/only-here").exists()
    """)),
    Neighbour(package="pytest-asyncio", more=suite("""
        import pytest
        @pytest.mark.asyncio
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-bdd", more=suite("""
        from pathlib import Path
        from pytest_bdd import given, scenarios
        Path(__file__).with_name("a.feature").write_text("Feature: a\\n  Scenario: b\\n    Given power\\n")
        @given("power")
        def power(dut): dut.power.on()
        scenarios("a.feature")
    """)),
    Neighbour(package="pytest-check", more=suite("""
        from pytest_check import check
        def test_check(dut):
            with check: assert dut.exporter.name
    """)),
    Neighbour(package="pytest-cov", args=("--cov=.", "--cov-report=term"), shown=(("", "TOTAL"),)),
    Neighbour(package="pytest-dependency", more=suite("""
        import pytest
        @pytest.mark.dependency()
        def test_first(dut): dut.power.on()
        @pytest.mark.dependency(depends=["test_first"])
        def test_second(): pass
    """)),
    Neighbour(package="pytest-forked", more=suite("""
        def test_without_device(): pass
    """)),
    Neighbour(
        package="pytest-html",
        needs=("pytest-metadata",),
        args=("--html=p.html",),
        shown=(("p.html", "Exporter"), ("p.html", "board-")),
    ),
    Neighbour(package="pytest-instafail", args=("--instafail",), shown=(("", "AssertionError: the product"),)),
    Neighbour(
        package="pytest-json-report",
        args=("--json-report", "--json-report-file=r.json"),
        shown=(("r.json", "console of dut"), ("r.json", '"device error": 1'), ("r.json", '"passed": 2')),
        is_in_ci=True,
    ),
    Neighbour(package="pytest-lazy-fixtures", more=suite("""
        import pytest
        from pytest_lazy_fixtures import lf
        @pytest.mark.parametrize("board", [lf("dut")])
        def test_lazy(board): board.power.on()
    """)),
    Neighbour(package="pytest-order", more=suite("""
        import pytest
        @pytest.mark.order(2)
        def test_second(dut): assert done
        done = []
        @pytest.mark.order(1)
        def test_first(): done.append(1)
    """)),
    Neighbour(package="pytest-ordering", more=suite("""
        import pytest
        @pytest.mark.run(order=1)
        def test_first(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-random-order", args=("--random-order",)),
    Neighbour(package="pytest-randomly"),
    Neighbour(package="pytest-repeat", more=suite("""
        import pytest
        @pytest.mark.repeat(3)
        def test_repeated(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-reportlog", args=("--report-log=log.jsonl",), shown=(("log.jsonl", "console of dut"),)),
    Neighbour(package="pytest-rerunfailures", args=("--reruns=1",)),
    Neighbour(package="pytest-retry", args=("--retries=1",)),
    Neighbour(package="pytest-reverse", args=("--reverse",)),
    Neighbour(package="pytest-rich"),
    Neighbour(package="pytest-socket", args=("--allow-unix-socket", "--allow-hosts=127.0.0.1,localhost")),
    Neighbour(package="pytest-split", args=("--splits=1", "--group=1")),
    Neighbour(package="pytest-subtests", more=suite("""
        def test_sub(dut, subtests):
            for _ in range(2):
                with subtests.test(): dut.power.on()
    """)),
    Neighbour(package="pytest-sugar"),
    Neighbour(package="pytest-timeout", args=("--timeout=60",)),
    Neighbour(package="pytest-trio", more=suite("""
        import pytest
        @pytest.mark.trio
        async def test_async(dut): dut.power.on()
    """)),
    Neighbour(package="pytest-xdist", args=("-n2",)),
    Neighbour(package="pytest-xdist", args=("--dist=each", "--tx=2*popen")),
    Neighbour(package="teamcity-messages", args=("--teamcity",), shown=(("", "##teamcity[testFailed"),)),
    Neighbour(package="time-machine", more=suite("""
        from datetime import datetime
        import time_machine
        @time_machine.travel("2020-01-01")
        def test_elsewhen(dut, console):
            dut.power.cycle()
            console.expect("login:")
            assert datetime.now().year == 2020
    """)),
]  # fmt: skip

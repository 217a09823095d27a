"""Whoever has ordered the tests, wins: grouping by device moves only what nobody else has put in its place."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from states_suite import CONFTEST

GRAPHS = int(os.environ.get("PYTEST_GRAPHS", "12"))
KEPT = "jumpstarter: tests keep their order"
GATEWAY = """
    from pytest_jumpstarter import device_fixture
    gateway = device_fixture(selector="kind=gateway")
"""
SUITE = {
    "test_1.py": "def test_dut(dut): pass\ndef test_none(): pass",
    "test_2.py": "def test_none(): pass",
    "test_3.py": "class TestDut:\n    def test_dut(self, dut): pass\ndef test_none(): pass",
    "zoo/test_4.py": "def test_none(): pass",
    "zoo/test_5.py": "def test_dut(dut): pass",
}
ALONE = "1:dut 1:none 2:none 3:dut 3:none 4:none 5:dut"  # pytest's own order
GROUPED = "2:none 3:none 4:none 1:dut 1:none 3:dut 5:dut"


class Witness:
    """Notes the order in which tests would run."""

    order = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note module and name of each test."""
        names = (f"{item.path.stem}:{item.name}" for item in session.items)
        self.order = " ".join(name.replace("test_", "") for name in names)


def ordered(pytester: pytest.Pytester, *args: str) -> tuple[str, str]:
    """Return module and name of the tests in the order in which they would run, and what is said of it."""
    witness = Witness()
    args = ("--collect-only", "-p", "no:randomly", "--jmp-selector=kind=dut", *args)
    result = pytester.runpytest_inprocess(*args, plugins=[witness])
    return witness.order, " ".join(line for line in result.outlines if line.startswith(KEPT))


@pytest.fixture
def files(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a folder with tests in several files and folders."""
    (pytester.path / "zoo").mkdir()
    for name, source in SUITE.items():
        (pytester.path / name).write_text(source)
    pytester.makeini("[pytest]\nmarkers =\n    order\n    run\n    slow\n    depends_on\n")
    return pytester


def test_nobody(files: pytest.Pytester) -> None:
    """Where nobody has ordered, tests are grouped, and nothing is said."""
    assert ordered(files) == (GROUPED, "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["test_3.py", "test_1.py"], "3:dut 3:none 1:dut 1:none"),
        (["test_1.py::test_dut", "test_2.py", "test_1.py::test_none"], "1:dut 2:none 1:none"),
        (["test_3.py"], "3:dut 3:none"),
        (["test_3.py::TestDut", "zoo"], "3:dut 4:none 5:dut"),
    ],
    ids=["files", "node ids", "one file", "node id and folder"],
)
def test_command_line(files: pytest.Pytester, args: Sequence[str], expected: str) -> None:
    """Files and tests run in the order in which the command line names them; folders keep their places."""
    order, said = ordered(files, *args)
    assert order == expected
    assert "the command line gives an order" in said


def test_folders_of_the_command_line(files: pytest.Pytester) -> None:
    """Tests move inside a folder that the command line names, but not into another."""
    (files.path / "aviary").mkdir()
    (files.path / "aviary/test_6.py").write_text("def test_none(): pass")
    (files.path / "zoo/test_3.py").write_text("def test_dut(dut): pass")
    order, said = ordered(files, "zoo", "aviary")
    assert order == "4:none 3:dut 5:dut 6:none"
    assert "the command line gives an order" in said


REVERSED = " ".join(reversed(ALONE.split()))
HOOKS = {
    "conftest": "def pytest_collection_modifyitems(items): items.reverse()",
    "first": "@pytest.hookimpl(tryfirst=True)\ndef pytest_collection_modifyitems(items): items.reverse()",
    "last": "@pytest.hookimpl(trylast=True)\ndef pytest_collection_modifyitems(items): items[:] = items[::-1]",
    "wrapper, before": "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
    "def pytest_collection_modifyitems(items):\n    items.reverse()\n    return (yield)",
    "wrapper, after": "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
    "def pytest_collection_modifyitems(items):\n    yield\n    items.reverse()",
    "after collection": "@pytest.hookimpl(tryfirst=True)\n"
    "def pytest_collection_finish(session): session.items.reverse()",
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_conftest(files: pytest.Pytester, hook: str) -> None:
    """A conftest that orders has the last word, in whichever hook; the header names it."""
    files.makeconftest(f"import pytest\n{hook}")
    order, said = ordered(files)
    assert order == REVERSED
    assert "conftest.py" in said or "after" in hook or "finish" in hook, said


def test_plugin(files: pytest.Pytester) -> None:
    """A plugin that moves one test to the front has ordered all of them; the header names it."""
    files.makepyfile(slow_first="def pytest_collection_modifyitems(items): items.insert(0, items.pop())")
    files.syspathinsert()
    order, said = ordered(files, "-p", "slow_first")
    assert order == "5:dut 1:dut 1:none 2:none 3:dut 3:none 4:none"
    assert "slow_first has ordered them" in said


def test_plugin_that_deselects(files: pytest.Pytester) -> None:
    """Who leaves tests out, or adds marks, has not ordered the rest."""
    files.makeconftest(
        """
        import pytest
        def pytest_collection_modifyitems(items):
            items[:] = [item for item in items if item.path.name != "test_2.py"]
            for item in items: item.add_marker("slow")
        """
    )
    assert ordered(files, "-k", "not test_5") == ("3:none 4:none 1:dut 1:none 3:dut", "")


def test_parameters_of_a_wide_scope(pytester: pytest.Pytester) -> None:
    """That pytest itself groups tests by parameters is no order of somebody else."""
    pytester.makeconftest(
        """
        import pytest
        @pytest.fixture(scope="session", params=["a", "b"])
        def letter(request): return request.param
        """
    )
    pytester.makepyfile(
        test_1="def test_dut(dut): pass",
        test_2="def test_x(letter): pass\ndef test_y(letter): pass",
        test_3="def test_z(): pass",
    )
    assert ordered(pytester) == ("2:x[a] 2:y[a] 2:x[b] 2:y[b] 3:z 1:dut", "")


@pytest.mark.parametrize("arg", ["--ff", "--nf", "--stepwise"])
def test_options(files: pytest.Pytester, arg: str) -> None:
    """Options of pytest that order tests are named."""
    order, said = ordered(files, arg)
    assert order == ordered(files, arg, "--jmp-order=off")[0]
    assert f"{arg} orders them" in said


@pytest.mark.parametrize("mark", ["order(1)", "run(order=1)"])
def test_marks_that_order(files: pytest.Pytester, mark: str) -> None:
    """Marks of pytest-order and pytest-ordering count, also if all tests were in this order from the start."""
    (files.path / "test_1.py").write_text(f"import pytest\n@pytest.mark.{mark}\ndef test_dut(dut): pass")
    order, said = ordered(files)
    assert order == "1:dut 2:none 3:dut 3:none 4:none 5:dut"
    assert "marks order them" in said


def test_dependencies(files: pytest.Pytester) -> None:
    """Tests that depend on others keep their order among themselves; all others are grouped."""
    (files.path / "test_1.py").write_text(
        "import pytest\n@pytest.mark.depends_on()\ndef test_dut(dut): pass\ndef test_none(): pass"
    )
    (files.path / "test_2.py").write_text("import pytest\n@pytest.mark.depends_on('test_dut')\ndef test_none(): pass")
    order, said = ordered(files)
    assert order == "3:none 4:none 1:dut 1:none 2:none 3:dut 5:dut"
    assert "tests depend on others" in said


def test_dependencies_by_request(files: pytest.Pytester) -> None:
    """A test that may depend on others by a call, with `request`, stays behind them too."""
    (files.path / "test_1.py").write_text("import pytest\n@pytest.mark.depends_on()\ndef test_dut(dut): pass")
    (files.path / "test_2.py").write_text("def test_none(request): pass")
    assert ordered(files)[0] == "3:none 4:none 1:dut 2:none 3:dut 5:dut"


def test_off(files: pytest.Pytester) -> None:
    """With --jmp-order off there is nothing to say."""
    assert ordered(files, "--jmp-order=off", "--ff") == (ALONE, "")


def graph(number: int) -> dict[str, set[str]]:
    """Return random tests, `test_MODULE_PART_N`, and for each those that it depends on; all of them come earlier."""
    chance = random.Random(number)
    found: dict[str, set[str]] = {}
    for module in range(chance.randint(2, 7)):
        for part in range(chance.randint(1, 3)):
            for test in range(chance.randint(1, 3)):
                on = chance.sample(sorted(found), min(len(found), chance.choice([0, 0, 0, 1, 2])))
                found[f"test_{module}_{part}_{test}"] = set(on)
    return found


DEVICES: Sequence[list[str]] = ([], [], ["dut"], ["gateway"], ["dut", "gateway"])
STATES: Sequence[list[str]] = ([], ["dut"], ["off"], ["login"], ["shell"], ["shell", "gateway"])


def sources(
    tests: dict[str, set[str]], number: int, fixtures: Sequence[list[str]], *, is_automatic: bool = False
) -> dict[str, str]:
    """
    Return a suite of these tests, in modules and classes, with marks where one depends on another.

    Args:
        tests: The tests, and those that each depends on.
        number: The number of the suite.
        fixtures: What a test may request.
        is_automatic: Whether pytest-dependency marks the tests that others depend on, and names them.
    """
    chance = random.Random(number)
    needed = set[str]().union(*tests.values())
    kinds: dict[str, bool] = {}
    lines: dict[str, list[str]] = {}
    ids: dict[str, str] = {}
    for name, on in tests.items():
        module, part = name.rsplit("_", 2)[0], name.rsplit("_", 1)[0]
        source = lines.setdefault(module, ["import pytest"])
        group = part.title().replace("_", "")
        if part not in kinds:
            kinds[part] = chance.random() < 0.5
            source += [f"class {group}:"] if kinds[part] else []
        arguments = [*(["self"] if kinds[part] else []), *chance.choice(fixtures)]
        indent = "    " if kinds[part] else ""
        ids[name] = "::".join((f"{module}.py", *([group] if kinds[part] else []), name))
        if is_automatic and on:
            depends = [ids[each] for each in sorted(on)]
            source.append(f"{indent}@pytest.mark.dependency(depends={depends!r}, scope='session')")
        elif not is_automatic and (on or name in needed):
            source.append(f"{indent}@pytest.mark.dependency(name={name!r}, depends={sorted(on)!r})")
        source.append(f"{indent}def {name}({', '.join(arguments)}): pass")
    return {module: "\n".join(source) for module, source in lines.items()}


@pytest.mark.parametrize("fixtures", [DEVICES, STATES], ids=["devices", "states"])
@pytest.mark.parametrize("number", range(GRAPHS))
def test_random_dependencies(pytester: pytest.Pytester, number: int, fixtures: Sequence[list[str]]) -> None:
    """No test runs before one that it depends on."""
    tests = graph(number)
    pytester.makeconftest(CONFTEST if fixtures is STATES else GATEWAY)
    pytester.makeini("[pytest]\nmarkers = dependency\n")
    pytester.makepyfile(**sources(tests, number, fixtures))
    order = [f"test_{name.split(':')[1]}" for name in ordered(pytester)[0].split()]
    assert sorted(order) == sorted(tests)
    late = [(name, other) for name in tests for other in tests[name] if order.index(name) < order.index(other)]
    assert late == [], order


@pytest.mark.parametrize("number", range(0, GRAPHS, 4))
def test_random_dependencies_of_the_real_plugin(
    suite: pytest.Pytester, neighbours: str, installed: Callable[[str], str], number: int
) -> None:
    """Beside pytest-dependency, which marks all tests itself, no test is skipped."""
    assert installed("pytest-dependency")
    tests = graph(number)
    suite.makeconftest(GATEWAY)
    ini = suite.path / "tox.ini"
    ini.write_text(f"{ini.read_text().rstrip()}\nautomark_dependency = true\n")
    suite.makepyfile(**sources(tests, number, DEVICES, is_automatic=True))
    run = Path(__file__).with_name("run_beside.py")
    command = [neighbours, str(run), "pytest-dependency", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=120, check=False)
    assert f"= {len(tests)} passed" in done.stdout, done.stdout + done.stderr

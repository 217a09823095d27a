"""README has every public name, fixture, hook, option and message; docs/architecture.md matches the code."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pytest_jumpstarter
from pytest_jumpstarter import Console, Device, LeaseRequest, client, errors, hooks
from pytest_jumpstarter.client import v1
from pytest_jumpstarter.client.v1 import Client, Response
from pytest_jumpstarter.lab.documents import read_documents
from pytest_jumpstarter.options import OPTIONS, Option
from pytest_jumpstarter.running.exit_code import EXIT_CODES

ROOT = Path(__file__).parent.parent
# Members that the parts of this package call on each other.
INTERNAL = {
    "close", "error", "is_open", "leaves_open", "log", "lose", "record", "release", "renew", "serial_ports", "source",
    "supports",
}  # fmt: skip
README = (ROOT / "README.md").read_text().replace("\\|", "|")  # as a table has to write it
PACKAGE = Path(pytest_jumpstarter.__file__).parent
MAP, _, WALKS = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Six walks\n")


@pytest.mark.parametrize("name", pytest_jumpstarter.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    """Every public name can be imported, and README has it."""
    assert getattr(pytest_jumpstarter, name).__doc__
    assert re.search(rf"`{name}\b", README)


def test_public_names_are_all() -> None:
    """The lazy names and `__all__` are the same, and others are refused."""
    assert set(pytest_jumpstarter.__all__) == set(pytest_jumpstarter._HOMES)
    assert not hasattr(pytest_jumpstarter, "nonsense")


@pytest.mark.parametrize("name", ["dut", "console", "jumpstarter"])
def test_fixture_is_documented(pytester: pytest.Pytester, name: str) -> None:
    """README has every fixture, and `pytest --fixtures` a docstring for it."""
    assert f"| `{name}` |" in README
    shown = pytester.runpytest("--fixtures").outlines
    ours = shown[next(i for i, line in enumerate(shown) if "pytest_jumpstarter.fixtures ---" in line) :]
    start = next(i for i, line in enumerate(ours) if re.match(rf"{name}\b", line))
    assert "no docstring available" not in ours[start + 1]


def test_every_fixture_is_tested_here(pytester: pytest.Pytester) -> None:
    """The list of fixtures above is complete."""
    shown = "\n".join(pytester.runpytest("--fixtures").outlines)
    section = shown.split("pytest_jumpstarter.fixtures ---")[1].split("\n---")[0]
    assert sorted(re.findall(r"^(\w+)\b.* -- ", section, re.MULTILINE)) == ["console", "dut", "jumpstarter"]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_is_documented(option: Option) -> None:
    """README has every option with its metavar, its ini name, its variable and its default."""
    row = next(line for line in README.splitlines() if line.startswith(f"| `{option.flag} {option.metavar}`"))
    assert f"`{option.ini}`" in row
    assert option.variable in row
    assert (option.default or "") in row


@pytest.mark.parametrize("name", [name for name in vars(hooks) if name.startswith("pytest_")])
def test_hook_is_documented(name: str) -> None:
    """README has every hook with its arguments, and the hook a docstring."""
    signature = ", ".join(inspect.signature(getattr(hooks, name)).parameters)
    assert f"| `{name}({signature})` |" in README
    assert getattr(hooks, name).__doc__


def test_lab_options_are_documented() -> None:
    """README has every option of the lab's command line that is meant for people."""
    shown = subprocess.run(
        [sys.executable, "-m", "pytest_jumpstarter.lab", "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = set(re.findall(r"(--[a-z-]+)", shown)) - {"--help"}
    assert flags
    assert [flag for flag in sorted(flags) if f"`{flag}" not in README] == []


@pytest.mark.parametrize("name", v1.__all__)
def test_client_name_is_documented(name: str) -> None:
    """README has every public name of the client."""
    assert re.search(rf"`{name}\b", README)


@pytest.mark.parametrize("kind", [Client, Response, Device, Console, LeaseRequest], ids=lambda kind: kind.__name__)
def test_members_are_documented(kind: type) -> None:
    """README has every public member of what a test or hook is given, but for those that only this package calls."""
    members = {name for name in vars(kind) if not name.startswith("_")} - INTERNAL
    assert members
    assert [name for name in sorted(members) if not re.search(rf"`\.?(\w+\.)?{name}\b", README)] == []


def test_client_names_have_docstrings() -> None:
    """Every public name of the client, and every error, says what it is."""
    assert client.__doc__
    assert [name for name in v1.__all__ if not inspect.getdoc(getattr(v1, name))] == []
    assert [name for name, value in vars(errors).items() if inspect.isclass(value) and not value.__doc__] == []


def test_python_blocks_compile() -> None:
    """Every Python block of README is Python."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        compile(block, "README.md", "exec")


def test_own_project(pytester: pytest.Pytester) -> None:
    """The test, the lab file and the ini file of README are a project that passes."""
    test = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    own = README.partition("## Your own project")[2].partition("\n## ")[0]
    [lab], [ini] = (re.findall(rf"```{kind}\n(.*?)```", own, re.DOTALL) for kind in ("yaml", "ini"))
    pytester.makepyfile(test_board=test)
    pytester.path.joinpath("lab.yaml").write_text(lab)
    pytester.path.joinpath("pytest.ini").write_text(ini)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_bench_file_is_a_lab_file(tmp_path: Path) -> None:
    """The lab knows every key of README's own lab files."""
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "ExporterConfig" in block]
    assert len(blocks) == 2
    for block in blocks:
        file = tmp_path / "lab.yaml"
        file.write_text(block)
        [document] = read_documents([file])
        assert document.driver_types


def test_versions_are_those_that_are_tested() -> None:
    """README's table of versions names what `.ci/versions` makes environments of, and what the project asks for."""
    script = (ROOT / ".ci" / "versions").read_text()
    lists = {name: found.split() for name, found in re.findall(r"^(\w+)=\(([^)]*)\)", script, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = dict(re.findall(r"^\| (.*?) \| (.*) \|$", README.partition("## Versions")[2], re.MULTILINE))
    pythons, oldest_pytest = rows["Python"].split(", "), rows["pytest"].partition(".0,")[0]
    assert set(pythons) <= set(lists["pythons"])
    assert project["requires-python"] == f">={pythons[0]}"
    assert all(f"Programming Language :: Python :: {version}" in project["classifiers"] for version in pythons)
    assert f"pytest>={oldest_pytest}" in project["dependencies"]
    assert sorted(re.findall(r"0\.\d\.\d", rows["exporters"])) == lists["exporters"]
    for row in ("jumpstarter beside the plugin", "`jmp` with the embedded lab"):
        assert set(re.findall(r"0\.\d\.\d", rows[row])) == {*lists["peers"], lists["exporters"][-1]}


def test_wheel_has_what_it_needs() -> None:
    """The entry point, the type marker and the licence are where tools look for them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"jumpstarter": "pytest_jumpstarter.plugin"}
    assert (Path(pytest_jumpstarter.__file__).parent / "py.typed").exists()
    assert "Framework :: Pytest" in project["classifiers"]
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_exit_codes_are_documented() -> None:
    """README has the table of exit codes, in the order in which they decide."""
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES)
    assert f"| exit code | what happened |\n| --- | --- |\n{rows}" in README


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")


def functions_in(path: Path) -> set[str]:
    """Return the functions of a module, methods with the name of their class."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef | ast.Module)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        f"{node.name}.{each.name}" if isinstance(node, ast.ClassDef) else each.name
        for node in nodes
        for each in node.body
        if isinstance(each, kinds)
    }


def test_map_is_that_of_the_code() -> None:
    """The map lists every room and every module outside of rooms, each with the first words of its docstring."""
    rooms = {str(path.parent.relative_to(PACKAGE)): summary(path) for path in PACKAGE.rglob("*/__init__.py")}
    modules = {path.name: summary(path) for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    assert dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", MAP, re.MULTILINE)) == rooms | modules


@pytest.mark.parametrize("walk", WALKS.split("\n### ")[1:], ids=lambda walk: walk.partition("\n")[0])
def test_walk_is_that_of_the_code(walk: str) -> None:
    """Every file of a walk exists, and every function is in the file of its line; other methods are in the package."""
    steps = re.findall(r"^\d+\. `([^`]+)` (.*?): (.*)$", walk, re.MULTILINE)
    assert 5 <= len(steps) == len(re.findall(r"^\d+\.", walk, re.MULTILINE)) <= 12
    for file, functions, words in steps:
        named = set(re.findall(r"`([^`]+)`", functions))
        assert named
        assert named - functions_in(PACKAGE / file) == set(), file
        methods = set(re.findall(r"`([A-Z]\w+\.[a-z_]+)`", words))
        assert methods - {name for path in PACKAGE.rglob("*.py") for name in functions_in(path)} == set()

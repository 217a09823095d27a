"""The pages in `docs/` match the code and what is tested; tests/test_site.py asks the site that is built of them."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import tomllib
from pathlib import Path

import pytest

import pytest_jumpstarter
from pytest_jumpstarter import client, errors
from pytest_jumpstarter.client import v1

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]}
PACKAGE = Path(pytest_jumpstarter.__file__).parent
MAP, _, WALKS = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Six walks\n")


@pytest.mark.parametrize("name", pytest_jumpstarter.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    """Every public name can be imported, and a page has it in its text, beside the list in the reference."""
    assert getattr(pytest_jumpstarter, name).__doc__
    assert any(re.search(rf"[`~.]{name}\b", text) for text in PAGES.values())


def test_public_names_are_all() -> None:
    """The lazy names and `__all__` are the same, and others are refused."""
    assert set(pytest_jumpstarter.__all__) == set(pytest_jumpstarter._HOMES)
    assert not hasattr(pytest_jumpstarter, "nonsense")


@pytest.mark.parametrize("name", ["dut", "console", "jumpstarter", "record_metric"])
def test_fixture_has_a_docstring(pytester: pytest.Pytester, name: str) -> None:
    """`pytest --fixtures` shows a docstring for every fixture."""
    shown = pytester.runpytest("--fixtures").outlines
    ours = shown[next(i for i, line in enumerate(shown) if "pytest_jumpstarter.fixtures ---" in line) :]
    start = next(i for i, line in enumerate(ours) if re.match(rf"{name}\b", line))
    assert "no docstring available" not in ours[start + 1]


def test_fixtures_fit(pytester: pytest.Pytester) -> None:
    """What `pytest --fixtures` shows of each fixture fits into 80 columns."""
    shown = pytester.runpytest("--fixtures").outlines
    ours = shown[next(i for i, line in enumerate(shown) if "pytest_jumpstarter.fixtures ---" in line) + 1 :]
    docs = [line for line in itertools.takewhile(lambda line: "---" not in line, ours) if line.startswith(" ")]
    assert len(docs) >= 4
    assert [line for line in docs if len(line) > 80] == []


def test_every_fixture_is_tested_here(pytester: pytest.Pytester) -> None:
    """The list of fixtures above is complete."""
    shown = "\n".join(pytester.runpytest("--fixtures").outlines)
    section = shown.split("pytest_jumpstarter.fixtures ---")[1].split("\n---")[0]
    assert sorted(re.findall(r"^(\w+)\b.* -- ", section, re.MULTILINE)) == [
        "console",
        "dut",
        "jumpstarter",
        "record_metric",
    ]


def test_client_names_have_docstrings() -> None:
    """Every public name of the client, and every error, says what it is."""
    assert client.__doc__
    assert [name for name in v1.__all__ if not inspect.getdoc(getattr(v1, name))] == []
    assert [name for name, value in vars(errors).items() if inspect.isclass(value) and not value.__doc__] == []


def test_messages_are_those_of_the_code() -> None:
    """Every message that the page about messages explains is in the code, but for what others say in it."""
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text in several lines
    rows = re.findall(r"^\| (.+?) \| ", PAGES["docs/reference/messages.md"], re.MULTILINE)
    shown = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    parts = {part.strip(" ,()") for each in shown for part in re.split(r"…|: |'\w+'|jumpstarter_\S+|\d\S*|\(by", each)}
    assert len(parts) > 20
    assert {part for part in parts if part not in code} == {"invalid or missing passphrase"}


def test_readme_is_short() -> None:
    """README has 200 lines at most, and each of its links leads to a file."""
    text = PAGES["README.md"]
    assert len(text.splitlines()) <= 200
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_versions_are_those_that_are_tested() -> None:
    """The table of versions names what `.ci/versions` makes environments of, and what the project asks for."""
    script = (ROOT / ".ci" / "versions").read_text()
    lists = {name: found.split() for name, found in re.findall(r"^(\w+)=\(([^)]*)\)", script, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = dict(re.findall(r"^\| (.*?) \| (.*) \|$", PAGES["docs/project/versions.md"], re.MULTILINE))
    pythons, oldest_pytest = rows["Python"].split(", "), rows["pytest"].partition(".0,")[0]
    assert set(pythons) <= set(lists["pythons"])
    assert project["requires-python"] == f">={pythons[0]}"
    assert all(f"Programming Language :: Python :: {version}" in project["classifiers"] for version in pythons)
    assert f"pytest>={oldest_pytest}" in project["dependencies"]
    assert sorted(re.findall(r"0\.\d\.\d", rows["exporters"])) == lists["exporters"]
    for row in ("jumpstarter beside the plugin", "`jmp` with the embedded lab"):
        assert set(re.findall(r"0\.\d\.\d", rows[row])) == {*lists["peers"], lists["exporters"][-1]}
    oldest, newest = ([int(part) for part in each[0].split(".")] for each in (lists["peers"], lists["exporters"][-1:]))
    assert f"jumpstarter>={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}" in project["dependencies"]


def test_variables_of_the_tests() -> None:
    """The page for contributors has each variable that sets how many cases a test has; `.ci/run --full` sets them."""
    ways = (
        r'(?:int|bool)\(os\.environ\.get\("(\w+)"(?:, "(\w+)")?\)',
        r'^if os\.environ\.get\("(\w+)"()\)',
        r'\d if "(\w+)" in os\.environ()',
    )
    reads = re.compile("|".join(ways), re.MULTILINE)
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    found = [each for text in texts for each in reads.findall(text)]
    usual = {"".join(each[::2]): "".join(each[1::2]) for each in found}
    rows = re.findall(r"^\| `(\w+)` \| (\w*) ?\| (\w+) \| ", PAGES["docs/project/contributing.md"], re.MULTILINE)
    assert {name: default for name, default, _ in rows} == usual
    [large] = re.findall(r"^large=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)
    assert dict(each.split("=") for each in large.split()) == {name: count for name, _, count in rows}


def test_wheel_has_what_it_needs() -> None:
    """The entry point, the type marker and the licence are where tools look for them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"jumpstarter": "pytest_jumpstarter.plugin"}
    assert (Path(pytest_jumpstarter.__file__).parent / "py.typed").exists()
    assert "Framework :: Pytest" in project["classifiers"]
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")


@functools.cache
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


def test_every_example_is_run_and_shown() -> None:
    """Each folder of examples is in the table of its page, and `.ci/run` runs its tests alone."""
    script = (ROOT / ".ci" / "run").read_text()
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir() and not path.name.startswith((".", "_"))]
    assert len(folders) >= 3
    for folder in folders:
        assert f"examples/{folder.name}/" in PAGES["docs/howto/examples.md"]
        if list(folder.glob("test_*.py")):
            assert f'examples/{folder.name}" && ' in script
            assert (folder / "pytest.ini").exists()


def test_every_benchmark_is_in_the_table() -> None:
    """Each program in `benchmarks` has a row in its README; the others are parts that these start."""
    parts = {"__main__", "direct", "side", "standin", "unused"}
    programs = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()
    }
    rows = re.findall(r"^\| `python benchmarks/(\w+)\.py`", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE)
    assert programs - parts == set(rows)

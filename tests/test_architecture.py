"""Imports point downwards only, each room has its names, and what every run loads imports nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from zipfile import ZipFile

import pytest

import pytest_jumpstarter

PACKAGE = Path(pytest_jumpstarter.__file__).parent
PROJECT = Path(__file__).parents[1]

# From top to bottom: a part imports only parts below its own, type checking included. Every part may import itself.
LAYERS = (
    "__init__",
    "plugin",
    "jumpstarter_testing collection",
    "fixtures hooks",
    "states",
    "running",
    "workers",
    "report",
    "evidence",
    "devices_of",
    "roles",
    "lab_access types",
    "leasing",
    "history",
    "device",
    "client",
    "lab",
    "settings",
    "options",
    "option_values",
    "jumpstarter_private pytest_private selector signals",
    "errors durations masking host",
    "option_errors",
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}
BASE = {"errors", "option_errors", "masking", "selector", "durations", "host", "jumpstarter_private"}
WITHOUT_PYTEST = {"client", "device", "leasing", "lab", "types", *BASE}
LOADED_ALWAYS = (
    "__init__",
    "plugin",
    "fixtures",
    "options",
    "settings",
    "roles",
    "hooks",
    "option_errors",
    "selector",
    "durations",
)


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Return the part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """Return the dotted name of a module."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path, *, top_level_only: bool = False, types: bool = True) -> Iterator[str]:
    """Yield the dotted names that a module imports; those for type checking only if `types`."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not types:
                continue
            if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            else:
                yield from visit(child)

    return visit(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    """A module imports only the parts below its own, for type checking too."""
    part = part_of(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("pytest_jumpstarter.")}
    assert {other for other in ours - {part} if LEVEL[other] <= LEVEL[part]} == set(), f"{path.name} reaches up"
    if part in WITHOUT_PYTEST:
        assert not [name for name in imports(path) if name.split(".")[0] in ("pytest", "_pytest")]
    if part == "lab":  # a second, independent reading of the protocol
        assert ours - {"lab"} <= BASE


def test_no_circle() -> None:
    """No two modules import each other, directly or through others, type checking aside."""
    known = {name_of(path): path for path in modules()}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = {each if each in known else each.rpartition(".")[0] for each in imports(path, types=False)}
        graph[name] = (found & known.keys()) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle: {' -> '.join(exc.args[1])}")


def test_clocks_that_tests_cannot_replace() -> None:
    """The process that tests reads clocks and waits by `host.real_time`, whatever a test puts in place of `time`."""
    calls = re.compile(r"(?<![\w.`])time\.(time|monotonic|sleep)\(")
    paths = [path for path in modules() if part_of(path) not in ("lab", "host")]
    assert [path.name for path in paths if calls.search(path.read_text())] == []


def test_root_of_the_package() -> None:
    """At the root stand the fixtures, the settings and what all rooms share, and no more."""
    assert len(list(PACKAGE.glob("*.py"))) <= 18


def test_few_values_of_any_type() -> None:
    """What people read, and the device, is typed; what is of a class that only the lab knows has one name."""
    rooms = [path for path in modules() if part_of(path) in ("report", "evidence", "device")]
    assert sum(len(re.findall(r"\bAny\b", path.read_text())) for path in rooms) <= 60


def test_no_two_modules_of_one_name() -> None:
    """A module's name says which one is meant; the lab is a house of its own."""
    names = [path.stem for path in modules() if part_of(path) != "lab" and not path.stem.startswith("__")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("part", LOADED_ALWAYS)
def test_every_run_loads_only_the_standard_library_and_pytest(part: str) -> None:
    """What every run loads imports nothing but the standard library, pytest and its own like at the top."""
    allowed = sys.stdlib_module_names | {"pytest"}
    for name in imports(PACKAGE / f"{part}.py", top_level_only=True, types=False):
        root, _, rest = name.partition(".")
        assert root in allowed or (root == "pytest_jumpstarter" and rest.split(".")[0] in LOADED_ALWAYS), name


@pytest.mark.parametrize("path", [PACKAGE, *(path.parent for path in PACKAGE.glob("*/__init__.py"))], ids=str)
def test_the_map_names_every_module(path: Path) -> None:
    """The docstring of a package is its map: every module and folder stands in it, and nothing else does."""
    if path.name in ("client", "lab"):
        return  # the one has only v1, the other is a program with a map of its own in lab.py
    doc = ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or ""
    there = {each.stem for each in path.glob("*.py")} | {each.parent.name for each in path.glob("*/__init__.py")}
    assert [name for name in sorted(there - {"__init__"}) if f"`{name}`" not in doc] == []


def test_no_file_is_too_long() -> None:
    """A file that holds one thing fits in 400 lines."""
    files = [*modules(), *PACKAGE.glob("report/templates/*")]
    assert {path.name: count for path in files if (count := len(path.read_text().splitlines())) > 400} == {}


def test_no_function_is_too_long() -> None:
    """A function that does one thing fits in 50 lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [(path, node) for path in modules() for node in ast.walk(ast.parse(path.read_text()))]
    lengths = {
        f"{path.name}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, node in nodes
        if isinstance(node, kinds)
    }
    assert {name: length for name, length in lengths.items() if length > 50} == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--quiet", "--wheel", "--no-isolation", "--outdir", str(folder), "."]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """What is installed is what stands in the package's folder: its modules, templates, schema and type marker."""
    with ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(["git", "ls-files", PACKAGE.name], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found == set(tracked.stdout.split())
    kinds = {Path(name).suffix or Path(name).name for name in found}
    assert kinds == {".py", ".json", ".html", ".css", ".js", ".md", ".typed"}


def test_what_the_index_shows_of_the_wheel(wheel: Path) -> None:
    """README is shown as a page, and the metadata are accepted; twine is of the extra `dev`, as what builds it."""
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PASSED" in checked.stdout, checked.stdout + checked.stderr


def test_ci_tries_the_wheel() -> None:
    """`.ci/run` installs the wheel with the newest and the oldest dependencies on each Python of README."""
    script = (PROJECT / ".ci" / "run").read_text()
    pythons = re.search(r"^ *for version in (3.*); do$", script, re.MULTILINE)
    assert pythons is not None
    assert (
        f"It is tested with Python {pythons[1].split()[0]} to {pythons[1].split()[-1]}"
        in (PROJECT / "README.md").read_text()
    )
    assert re.search(r'^ *PATH=.* \.ci/wheel "\$clone/dist" "\$\{pythons\[@\]\}"$', script, re.MULTILINE)

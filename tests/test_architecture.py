"""Imports point downwards only, and nothing heavy is imported at the top of what every run loads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_jumpstarter

PACKAGE = Path(pytest_jumpstarter.__file__).parent
BASE = {"errors", "masking", "selector", "units"}

# Who may import whom, type checking aside. Every part may import itself.
ARROWS = {
    "__init__": set(),
    "errors": set(),
    "masking": set(),
    "units": set(),
    "selector": {"errors"},
    "options": BASE,
    "settings": BASE | {"options"},
    "hooks": set(),
    "origin": set(),
    "client": BASE,
    "device": BASE,
    "leasing": BASE | {"origin", "client", "device"},
    "pytest_private": set(),
    "signals": set(),
    "devices_of": {"errors", "pytest_private", "roles"},
    "evidence": {"devices_of"},
    "report": BASE | {"devices_of", "evidence", "origin", "pytest_private"},
    "site": BASE | {"client", "lab", "settings"},
    "run": BASE | {"leasing", "settings", "signals", "site"},
    "workers": BASE | {"client", "lab", "leasing", "report", "roles", "settings", "signals", "site"},
    "roles": BASE | {"leasing", "options", "pytest_private", "settings"},
    "needs": BASE | {"devices_of", "pytest_private", "roles", "running"},
    "running": BASE | {"device", "devices_of", "evidence", "pytest_private", "roles", "signals"},
    "asked": BASE | {"devices_of", "roles"},
    "check": BASE
    | {"devices_of", "client", "leasing", "report", "roles", "run", "running", "schedule", "settings", "site"},
    "drop_in": BASE | {"plugin", "roles"},
    "dut": {"plugin"},
    "each": BASE | {"leasing", "roles", "session", "settings", "workers"},
    "order": {"devices_of", "pytest_private", "roles"},
    "schedule": BASE | {"device", "devices_of", "leasing", "roles", "running", "session", "settings"},
    "session": BASE | {"devices_of", "leasing", "report", "run", "running", "settings", "signals", "site", "workers"},
    "plugin": BASE
    | {"asked", "check", "devices_of", "dut", "each", "settings", "workers"}
    | {"hooks", "needs", "options", "order", "report", "roles", "run", "running", "schedule", "session"},
    "lab": BASE,
}
WITHOUT_PYTEST = {"client", "device", "leasing", "lab", "errors", "masking", "selector", "units"}
LOADED_ALWAYS = (
    "__init__",
    "plugin",
    "options",
    "settings",
    "roles",
    "devices_of",
    "hooks",
    "errors",
    "selector",
    "units",
)


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Return the part of the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Yield the dotted names that a module imports when it runs."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
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
def test_arrows_point_downwards(path: Path) -> None:
    """A module imports only the parts below its own."""
    part = part_of(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("pytest_jumpstarter.")}
    assert ours - {part} <= ARROWS[part], f"{path.name} reaches up"
    if part in WITHOUT_PYTEST:
        assert not [name for name in imports(path) if name.split(".")[0] in ("pytest", "_pytest")]


@pytest.mark.parametrize("part", LOADED_ALWAYS)
def test_every_run_loads_only_the_standard_library_and_pytest(part: str) -> None:
    """What every run loads imports nothing but the standard library, pytest and its own like at the top."""
    import sys

    allowed = sys.stdlib_module_names | {"pytest"}
    for name in imports(PACKAGE / f"{part}.py", top_level_only=True):
        root, _, rest = name.partition(".")
        assert root in allowed or (root == "pytest_jumpstarter" and rest.split(".")[0] in LOADED_ALWAYS), name


def test_the_map_names_every_part() -> None:
    """The package's docstring is its map: every part stands in it."""
    assert pytest_jumpstarter.__doc__ is not None
    for part in ARROWS.keys() - {"__init__"}:
        assert f"`{part}" in pytest_jumpstarter.__doc__ or f"`{part}`" in pytest_jumpstarter.__doc__, part


def test_no_file_is_too_long() -> None:
    """A file that holds one thing fits in 400 lines."""
    assert {path.name: count for path in modules() if (count := len(path.read_text().splitlines())) > 400} == {}

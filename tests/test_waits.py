"""The table of waits names every place of the package that blocks, and every constant that bounds one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_jumpstarter
from pytest_jumpstarter.running.waits import WAITS, Wait

PACKAGE = Path(pytest_jumpstarter.__file__).parent
OF_THE_LAB = {"lab/lab.py", "lab/faults.py"}
"""What the process of a run does with a lab; the rest of that room serves."""

BLOCKING = {
    *("wait", "result", "sleep", "fail_after", "move_on_after", "settimeout", "wait_for", "communicate", "select"),
    *(
        "timeout",
        "wrap_async_context_manager",
        "attempts",
        "polls",
        "accept",
        "create_connection",
        "read_nonblocking",
        "fdspawn",
        "poll",
        "readline",
    ),
}
NO_WAIT = {
    "option_values.py:SHORTEST_TTL",  # a limit of an option
    "client/v1/rules.py:_LONGEST",  # of a message
    "device/recording.py:_RESOLUTION",
    "device/transfers.py:_SOON",  # how fast a side must be
    "report/timeline.py:_MIN_WIDTH",
    "leasing/lease_request.py:DEFAULT_DURATION",  # of a lease
    *(f"history/verdicts.py:{name}" for name in ("LEVEL", "TOLERATED", "_STILL_FAILS", "_SLOWEST", "_SLOWER")),
    "history/verdicts.py:_SLOWER_SECONDS",  # of a test
    "history/store.py:_STALE",  # the age of a file
    "workers/refusals.py:_KEPT",  # of what was learned
    *(f"report/drafts.py:{name}" for name in ("_CREDIT", "_AGE")),  # how often drafts are written
    *(f"history/board_health.py:{name}" for name in ("_LEVEL", "_SLOW")),
}
"""Constants with a number that is no time to wait."""

SOURCES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if (name := path.relative_to(PACKAGE).as_posix()) not in ("running/waits.py", "host/real_time.py")
    and (not name.startswith("lab/") or name in OF_THE_LAB)
]


def blocks(call: ast.Call) -> bool:
    """Tell whether a call may block: by its name, or because it takes a timeout."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if any(keyword.arg == "timeout" for keyword in call.keywords) or name in BLOCKING:
        return True
    if name == "call":
        return "portal" in ast.unparse(function)
    if name == "join" and isinstance(function, ast.Attribute) and not call.keywords:  # of a thread, not of texts
        is_text = isinstance(function.value, ast.Constant | ast.JoinedStr) or ast.unparse(function.value) in _MODULES
        return not is_text and all(isinstance(each, ast.Name | ast.Attribute) for each in call.args)
    return False


_MODULES = ("os.path", "shlex", "os.pathsep")


def waiting_places(path: Path) -> Iterator[str]:
    """Yield the functions of a module that block, as the table names them."""
    module = path.relative_to(PACKAGE).as_posix()

    def visit(node: ast.AST, names: tuple[str, ...]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            is_scope = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if isinstance(child, ast.Call) and blocks(child):
                yield f"{module}:{'.'.join(names)}"
            yield from visit(child, (*names, child.name) if is_scope else names)  # type: ignore[attr-defined]

    yield from visit(ast.parse(path.read_text()), ())


def times(path: Path) -> Iterator[str]:
    """Yield the module's constants that are a number of seconds: a float, as all times are."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and _is_time(statement.value):
            for target in statement.targets:
                yield ast.unparse(target)


def _is_time(value: ast.expr) -> bool:
    return any(isinstance(each, ast.Constant) and isinstance(each.value, float) for each in ast.walk(value)) and all(
        isinstance(each, ast.Constant | ast.BinOp | ast.operator) for each in ast.walk(value)
    )


CONSTANTS = {name for path in SOURCES for name in times(path)}
PLACES = {path: set(waiting_places(path)) for path in SOURCES}
IN_TABLE = {place for wait in WAITS for place in wait.places.split()}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_wait_is_in_the_table(path: Path) -> None:
    """Each function that blocks has a row, and so has each constant that is a time."""
    assert sorted(PLACES[path] - IN_TABLE) == []
    module = path.relative_to(PACKAGE).as_posix()
    bounds = " ".join(wait.bound for wait in WAITS)
    missing = [name for name in times(path) if not re.search(rf"(?<!\w){name}\b", bounds)]
    assert [name for name in missing if f"{module}:{name}" not in NO_WAIT] == []


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.awaited)
def test_every_row_stands_for_a_wait(wait: Wait) -> None:
    """Each row names places that there are, and a bound whose constants there are."""
    there: set[str] = set().union(*PLACES.values())
    assert sorted(set(wait.places.split()) - there) == []
    named = re.findall(r"\b_?[A-Z]+(?:_[A-Z]+)+\b|\b_[A-Z]+\b|\bTIMEOUT\b", wait.bound)
    assert [name for name in named if name not in CONSTANTS] == []
    assert wait.bound, "a wait without an end"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("thread.join()", True),
        ("thread.join(TIMEOUT)", True),
        ("', '.join(words)", False),
        ("os.path.join(a, b)", False),
        ("event.wait()", True),
        ("client.get_lease(name, timeout=3)", True),
        ("portal.call(work)", True),
        ("hook.call(work)", False),
        ("time.sleep(1)", True),
    ],
)
def test_what_blocks(line: str, expected: bool) -> None:
    """The search finds what blocks, and leaves joins of texts alone."""
    (statement,) = ast.parse(line).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert blocks(statement.value) is expected

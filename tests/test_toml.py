"""Natural types of TOML: in `[tool.pytest]` and `pytest.toml` (pytest 9), in `ini_options`; as text in an ini file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.options import OPTIONS
from pytest_jumpstarter.settings import Settings

IS_NATIVE = pytest.version_tuple >= (9, 0)
only_native = pytest.mark.skipif(not IS_NATIVE, reason="pytest 9.0 is the first that has native TOML")


def _native(pytester: pytest.Pytester, text: str) -> str:
    (pytester.path / "pytest.toml").write_text(f"[pytest]\n{text}\n")
    return "pytest.toml"


def _native_in_pyproject(pytester: pytest.Pytester, text: str) -> str:
    pytester.makepyprojecttoml(f"[tool.pytest]\n{text}\n")
    return "pyproject.toml"


def _ini_options(pytester: pytest.Pytester, text: str) -> str:
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\n{text}\n")
    return "pyproject.toml"


def _ini(pytester: pytest.Pytester, text: str) -> str:
    """Write an ini file, which has text without quotes, and a list as lines."""
    lines = text.replace('"', "").replace("[", "\n  ").replace("]", "").replace(", ", "\n  ")
    (pytester.path / "pytest.ini").write_text(f"[pytest]\n{lines}\n")
    return "pytest.ini"


FILES = [
    pytest.param(_native, marks=only_native, id="pytest.toml"),
    pytest.param(_native_in_pyproject, marks=only_native, id="tool.pytest"),
    pytest.param(_ini_options, id="ini_options"),
    pytest.param(_ini, id="ini"),
]
ROWS = [
    ("retries", "2", 2),
    ("retries", '"2"', 2),
    ("retries", "0", 0),
    ("wait", "90", 90.0),
    ("wait", "1.5", 1.5),
    ("wait", '"15m"', 900.0),
    ("ttl", "60", 60.0),
    ("max-hold", "3600", 3600.0),
    ("call-timeout", "0.5", 0.5),
    ("hold-on-failure", '"1h"', 3600.0),
    ("order", "false", "off"),
    ("order", "true", "on"),
    ("order", '"off"', "off"),
    ("console", "true", "on"),
    ("console", "false", "off"),
    ("console", '"retain-on-failure"', "retain-on-failure"),
    ("scope", '"module"', "module"),
    ("no-device", '"skip"', "skip"),
    ("client", '"ci"', "ci"),
    ("direct", '"host:1234"', "host:1234"),
    ("selector", '"board=x"', ["board=x"]),
    ("selector", '["board=x"]', ["board=x"]),
    ("selector", '["board=x", "gateway:kind=g"]', ["board=x", "kind=g"]),
    ("exporter", '"board-1"', ["board-1"]),
    ("lease", '["gateway:l-1"]', ["l-1"]),
    ("each", '"board=x"', ["board=x"]),
    ("console-fatal", '"panic"', ["panic"]),
    ("console-fatal", '["panic", "Oops"]', ["panic", "Oops"]),
    ("console-live", "true", "on"),
    ("console-live", '"off"', "off"),
    ("console-timeout", "45", 45.0),
    ("console-timeout", '"1m"', 60.0),
    ("console-escapes", '"strip"', "strip"),
    ("flash", '"always"', "always"),
    ("allow-disabled", "true", "on"),
    ("allow-disabled", "false", "off"),
    ("avoid-unhealthy", "false", "off"),
    ("avoid-unhealthy", 'true\njmp_history = "past.db"', "on"),  # it needs the other
    ("order", '"longest"\njmp_history = "past.db"', "longest"),
    ("state", '"login"', ["login"]),
    ("state", '["login", "gateway:off"]', ["login", "off"]),
]
"""An option, a value as TOML has it, and what it means."""

PATHS = {"report": "a.html", "lab": "lab.yaml", "artifacts": "kept", "metrics": "m.txt", "history": "past.db"}
PATHS |= {"direct-ca": "ca.pem"}


@pytest.mark.parametrize("write", FILES)
@pytest.mark.parametrize(("option", "written", "expected"), ROWS, ids=[f"{name} = {text}" for name, text, _ in ROWS])
def test_natural_types(
    pytester: pytest.Pytester,
    write: Callable[[pytest.Pytester, str], str],
    option: str,
    written: str,
    expected: object,
) -> None:
    """A value has the type that one would write in TOML, and means the same in each kind of file."""
    name = f"jmp_{option.replace('-', '_')}"
    file = write(pytester, f"{name} = {written}")
    found = Settings.of(pytester.parseconfig(), {})
    settings = [setting for setting in found.all(option) if not setting.is_default]
    values = sorted(setting.value for setting in settings)
    assert values == (sorted(expected) if isinstance(expected, list) else [expected])
    assert {setting.source for setting in settings} == {f"{name} in {file}"}


@pytest.mark.parametrize("write", FILES)
@pytest.mark.parametrize(("option", "path"), PATHS.items())
def test_paths(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[pytest.Pytester, str], str],
    option: str,
    path: str,
) -> None:
    """Paths are relative to the folder of the file, wherever pytest is called."""
    write(pytester, f'jmp_{option.replace("-", "_")} = "{path}"')
    monkeypatch.chdir(pytester.mkdir("elsewhere"))
    (setting,) = Settings.of(pytester.parseconfig(), {}).all(option)
    assert Path(setting.value) == pytester.path / path


@pytest.mark.parametrize("write", FILES)
def test_several_paths(pytester: pytest.Pytester, write: Callable[[pytest.Pytester, str], str]) -> None:
    """An option for several paths takes a list, and one without a list."""
    for text, names in (('"a.html"', ["a.html"]), ('["a.html", "b.json"]', ["a.html", "b.json"])):
        write(pytester, f"jmp_report = {text}")
        found = Settings.of(pytester.parseconfig(), {})
        assert sorted(setting.value for setting in found.all("report")) == [pytester.path / name for name in names]


def test_all_options() -> None:
    """Every option has a row."""
    assert {name for name, _, _ in ROWS} | PATHS.keys() == {option.name for option in OPTIONS}


@only_native
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("jmp_retries = true", "True is not a value for --jmp-retries N"),
        ("jmp_retries = -1", "'-1' is not a whole number"),
        ("jmp_retries = 1.5", "'1.5' is not a whole number"),
        ("jmp_wait = [90]", r"\[90\] is a list; write one value"),
        ("jmp_wait = {seconds = 90}", r"\{'seconds': 90\} is not a value for --jmp-wait DURATION"),
        ("jmp_wait = 2026-11-28", r"datetime.date\(2026, 11, 28\) is not a value for --jmp-wait DURATION"),
        ('jmp_selector = [["board=x"]]', r"\['board=x'\] is not a value for --jmp-selector"),
        ("jmp_selector = true", "True is not a value for --jmp-selector"),
        ("jmp_order = 1", "'1' is not one of on, off and longest"),
    ],
)
def test_wrong_types(pytester: pytest.Pytester, written: str, message: str) -> None:
    """A value of a type that an option cannot have is an error that names file, value and option."""
    _native(pytester, written)
    name = written.partition(" ")[0]
    with pytest.raises(OptionError, match=f"^{name} in pytest.toml: {message}"):
        Settings.of(pytester.parseconfig(), {})


@only_native
def test_time_and_lines(pytester: pytest.Pytester) -> None:
    """A time of TOML is a duration; a text of several lines is several values."""
    _native(pytester, 'jmp_wait = 00:15:00\njmp_selector = """\n  board=x\n  gateway:kind=g\n"""')
    found = Settings.of(pytester.parseconfig(), {})
    assert found["wait"].value == 900.0
    assert {setting.role: setting.text for setting in found.of_roles()} == {"dut": "board=x", "gateway": "kind=g"}


@pytest.mark.parametrize("write", FILES)
def test_overridden_on_the_command_line(
    pytester: pytest.Pytester, write: Callable[[pytest.Pytester, str], str]
) -> None:
    """`--override-ini` wins over the file."""
    write(pytester, 'jmp_retries = 2\njmp_selector = "board=x"')
    found = Settings.of(pytester.parseconfig("-o", "jmp_retries=3", "-o", "jmp_selector=board=y"), {})
    assert found["retries"].value == 3
    assert [setting.text for setting in found.of_roles()] == ["board=y"]

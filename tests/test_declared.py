"""What the package imports of others: declared in the project, and only public names where others change."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from jumpstarter.client import DriverClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_architecture import PACKAGE, PROJECT, imports, modules, part_of

from pytest_jumpstarter import jumpstarter_private
from pytest_jumpstarter.errors import ConfigError
from pytest_jumpstarter.jumpstarter_private import ERRORS_OF_CONNECTIONS, PRIVATE

PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
UPSTREAM = ("jumpstarter", "jumpstarter_protocol")
OURS = PACKAGE / "jumpstarter_private.py"

# Imported only where they are there, each with the reason.
OPTIONAL = {
    "annotationlib": "part of Python 3.14",
    "allure": "where allure-pytest is in use",
    "allure_commons": "where allure-pytest is in use",
    "uvloop": "the extra speed",
    "xdist": "it calls our hooks",
    "pytest_html": "it calls our hooks",
    "serial": "jumpstarter-driver-pyserial of the extra lab brings it",
    "jumpstarter_driver_network": "the package of the ssh driver, which SshShell needs, brings it",
}


distributions = cache(packages_distributions)  # which reads the metadata of all of them, each time


def declared(*extras: str) -> set[str]:
    """Return the names of the distributions that the project asks for, with its own name for each of `extras`."""
    optional = PROJECT_TABLE["optional-dependencies"]
    wishes = [*PROJECT_TABLE["dependencies"], *(each for extra in extras for each in optional[extra])]
    return set(map(name_of, wishes))


def name_of(wish: str) -> str:
    """Return the name of a distribution, as indexes compare it."""
    return str(canonicalize_name(Requirement(wish).name))


@pytest.mark.parametrize("extra", ["", *PROJECT_TABLE["optional-dependencies"]])
def test_declared_once(extra: str) -> None:
    """No list names a distribution twice: the versions would contradict each other."""
    wishes = PROJECT_TABLE["optional-dependencies"][extra] if extra else PROJECT_TABLE["dependencies"]
    assert [name for name, count in Counter(map(name_of, wishes)).items() if count > 1] == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_imported_is_declared(path: Path) -> None:
    """Each package that a module imports is a dependency of the project; for the lab, one of its extra `lab` too."""
    found = distributions()
    known = declared("lab") if part_of(path) == "lab" else declared()
    names = {each for each in imports(path) if each.partition(".")[0] not in {*sys.stdlib_module_names, *OPTIONAL}}
    roots = {each.partition(".")[0] for each in names} - {"pytest_jumpstarter", "_pytest", "google"}
    missing = {root for root in roots if not known & {each.lower() for each in found.get(root, [root])}}
    assert missing == set()
    if any(each.startswith("google.protobuf") for each in names):
        assert "protobuf" in known
    if any(each.startswith("google") and not each.startswith("google.protobuf") for each in names):
        assert "googleapis-common-protos" in known


def public(module: str) -> set[str]:
    """Return the public names of a module of Jumpstarter's: those of its `__all__`."""
    return set(getattr(import_module(module), "__all__", ()))


@pytest.mark.parametrize("path", [each for each in modules() if each != OURS], ids=lambda path: path.name)
def test_only_public_names_of_jumpstarter(path: Path) -> None:
    """Only `jumpstarter_private` imports what Jumpstarter does not export."""
    assert list(not_public(path.read_text())) == []


def not_public(source: str) -> Iterator[str]:
    """Yield what a module imports of Jumpstarter that it does not export; a whole module has private names, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.partition(".")[0] in UPSTREAM)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UPSTREAM:
            exported = public(str(node.module))
            yield from (f"{node.module}.{each.name}" for each in node.names if each.name not in exported)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import jumpstarter.client.core as core", ["jumpstarter.client.core"]),
        ("import os, jumpstarter_protocol", ["jumpstarter_protocol"]),
        ("from jumpstarter.client.core import AsyncDriverClient", ["jumpstarter.client.core.AsyncDriverClient"]),
        ("from jumpstarter.client import DriverClient", []),
        ("import jumpstarter_driver_power.client", []),
    ],
)
def test_what_is_not_public(line: str, found: list[str]) -> None:
    """Both forms of an import are seen."""
    assert list(not_public(line)) == found


@pytest.mark.parametrize("name", PRIVATE)
def test_private_name_is_there(name: str) -> None:
    """The installed release of Jumpstarter has each private name that is used; if not, the error says which."""
    assert getattr(jumpstarter_private, name) is not None


def test_private_names_are_typed() -> None:
    """Each private name is imported for the type checker from the module that has it."""
    found = {each for each in imports(OURS) if each.startswith("jumpstarter.")}
    assert found == {f"{module}.{name}" for name, (module, _) in PRIVATE.items()}


@pytest.mark.parametrize(("module", "name"), ERRORS_OF_CONNECTIONS)
def test_error_is_there(module: str, name: str) -> None:
    """The installed release has each error that is known by its name only; a newer one may lack the last."""
    assert hasattr(import_module(module), name) or name == "ExporterUnreachableError"


def test_members_are_there() -> None:
    """Driver clients have the members that are used or replaced, and the builder of clients takes our arguments."""
    client = jumpstarter_private.AsyncDriverClient
    members = {*dir(DriverClient), *(each.name for each in fields(DriverClient))}
    assert {"call_async", "streamingcall_async", "children", "close", "labels", "portal", "stub", "uuid"} <= members
    assert "method" in client.streamingcall_async.__code__.co_varnames  # read in an error that names the method
    inspect.signature(jumpstarter_private.client_from_channel).bind("channel", "portal", "stack", [], False)
    warning = inspect.getsource(import_module(jumpstarter_private.LOGGER_OF_CLIENTS))
    assert jumpstarter_private.WORDS_OF_MISSING_DRIVER in warning


@pytest.mark.parametrize("name", PRIVATE)
def test_missing_name_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a release lacks a name, the error has the release, the name, what it is for, and what to do."""
    module, why = PRIVATE[name]
    monkeypatch.delattr(import_module(module), name)
    with pytest.raises(ConfigError) as caught:
        getattr(jumpstarter_private, name)
    assert re.fullmatch(
        rf"jumpstarter \S+ has no {re.escape(module)}\.{name}, which pytest-jumpstarter uses {re.escape(why)}; "
        "install a release that README names as tested",
        str(caught.value),
    )


def test_missing_module_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is where the whole module is gone."""
    monkeypatch.setitem(PRIVATE, "StubDriverClient", ("jumpstarter.client.gone", "for this test"))
    with pytest.raises(ConfigError, match=r"has no jumpstarter\.client\.gone\.StubDriverClient"):
        _ = jumpstarter_private.StubDriverClient

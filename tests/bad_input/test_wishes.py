"""What is asked for: selectors, names, roles, durations, from wherever they come."""

from __future__ import annotations

import re

import pytest

from pytest_jumpstarter.lab import Lab

from .runs import one_error, usage_error


def test_malformed_selector(suite: pytest.Pytester) -> None:
    """A selector on the command line that does not parse names the option and the place."""
    said = usage_error(suite, "--jmp-selector=board in (a")
    assert said == "--jmp-selector: selector 'board in (a' does not parse: ')' is missing at the end"


def test_malformed_selector_in_the_ini_file(suite: pytest.Pytester) -> None:
    """A selector in the ini file that does not parse names the ini value and the file."""
    suite.makeini("[pytest]\njmp_selector =\n    board=a\n    gateway:a,,b\n")
    said = usage_error(suite)
    assert said == "jmp_selector in tox.ini: selector 'a,,b' does not parse: ',' is not a label key"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("selector='a b'", "SelectorError: device_fixture: selector 'a b' does not parse: ',' expected before 'b'"),
        ("scope='world'", "OptionError: device_fixture: 'world' is not a scope; choose from session, package, module,"),
    ],
)
@pytest.mark.parametrize("file", ["conftest", "test_it"])
def test_malformed_device_fixture(suite: pytest.Pytester, file: str, arguments: str, message: str) -> None:
    """A device_fixture that makes no sense shows its own line in the user's file, and none of ours."""
    suite.makepyfile(test_it="def test_it(dut): pass")
    path = suite.path / f"{file}.py"
    path.write_text(f"from pytest_jumpstarter import device_fixture\ndut = device_fixture({arguments})\n")
    result = suite.runpytest_subprocess()
    assert result.ret == (4 if file == "conftest" else 2)
    lines = result.outlines + result.errlines
    [error] = [line for line in lines if line.startswith("E  ")]
    assert error.startswith(f"E   pytest_jumpstarter.errors.{message}")
    assert any(line.startswith(f"{file}.py:2: in <module>") for line in lines)
    assert not any(re.match(r"\S*pytest_jumpstarter/\S+:\d+", line) for line in lines)


def test_no_exporter_matches(suite: pytest.Pytester) -> None:
    """A selector that nothing matches says which labels there are."""
    said = one_error(suite, "--jmp-selector=board=nope,colour")
    assert said.startswith("no exporter can serve board=nope,colour (--jmp-selector); the lab has board=virtual (2), ")
    assert said.endswith("; no exporter has a label 'colour'")


def test_named_exporter_is_unknown(suite: pytest.Pytester, lab: Lab) -> None:
    """An exporter that is not there names those that are, the likeliest first."""
    suite.makeini(f"[pytest]\njmp_client = {lab.client_config}\njmp_exporter = bord-2\n")
    said = one_error(suite)
    assert said.startswith("exporter bord-2 cannot be leased (jmp_exporter in tox.ini); the lab has board-2, board-1, ")


def test_named_exporter_does_not_match(suite: pytest.Pytester) -> None:
    """An exporter that the selector does not fit shows the labels it has."""
    said = one_error(suite, "--jmp-exporter=board-1", "--jmp-selector=board=mock,can")
    assert said.startswith(
        "exporter board-1, board=mock,can cannot be leased (--jmp-selector, --jmp-exporter); "
        "it has board=virtual; it has no label 'can'"
    )


def test_a_hook_asks_for_what_is_not_there(suite: pytest.Pytester) -> None:
    """What a hook made of the request is what the error names."""
    suite.makeconftest("def pytest_jumpstarter_lease_request(request): request.selector = 'board=other'")
    said = one_error(suite)
    assert said.startswith(
        "no exporter can serve board=other "
        "(jmp_selector in tox.ini, changed by a pytest_jumpstarter_lease_request hook); the lab has board=virtual (2), "
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("selector = 'a b'", "selector 'a b' does not parse"),
        ("duration = -5", "CreateLease: lease.duration"),
        ("tags = {'a b': 'c'}", "tags"),
    ],
)
def test_a_hook_asks_for_nonsense(suite: pytest.Pytester, change: str, message: str) -> None:
    """A request that a hook has spoilt is refused before it leaves."""
    suite.makeconftest(f"def pytest_jumpstarter_lease_request(request): request.{change}")
    assert message in one_error(suite)


def test_selector_for_a_role_that_does_not_exist(suite: pytest.Pytester) -> None:
    """A value for a role that no fixture has names the roles there are."""
    said = usage_error(suite, "--jmp-selector=gatway:kind=gateway")
    assert said == "--jmp-selector: no device fixture is named 'gatway' (in gatway:kind=gateway); there are dut"


def test_nothing_is_asked_for(suite: pytest.Pytester, lab: Lab) -> None:
    """A device of which nothing is said names the ways to say it."""
    suite.makeini("[pytest]")
    said = one_error(suite, f"--jmp-client={lab.client_config}")
    assert said.startswith(
        "nothing says which exporter 'dut' needs; give --jmp-selector, --jmp-exporter or --jmp-lease"
    )


@pytest.mark.parametrize("wait", ["soon", "", "-5", "5 days"])
def test_bad_duration(suite: pytest.Pytester, wait: str) -> None:
    """A duration that is none names the forms there are."""
    said = usage_error(suite, f"--jmp-wait={wait}")
    assert said == f"--jmp-wait: {wait!r} is not a duration; write 90, 90s, 15m, 1h30m or HH:MM:SS"

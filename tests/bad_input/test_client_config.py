"""The client config: broken, incomplete, unknown, none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_jumpstarter.lab import Lab

from .runs import one_error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("token: abc\n  endpoint: [", "is not YAML at line 2, column 11: mapping values are not allowed here"),
        ("- a", "is not a ClientConfig: it is not a mapping"),
        ("kind: UserConfig", "is not a ClientConfig: its kind is 'UserConfig', not 'ClientConfig'"),
        ("\x80", "is not YAML"),
    ],
)
def test_broken_client_config(suite: pytest.Pytester, tmp_path: Path, text: str, message: str) -> None:
    """A client config that cannot be read says where it breaks, and who named it."""
    file = tmp_path / "client.yaml"
    file.write_text(text, encoding="latin-1")
    said = one_error(suite, f"--jmp-client={file}")
    assert said.startswith(f"{file} {message}")
    assert said.endswith("(from --jmp-client)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": None}, "token is missing in {file}; write it there, or set JMP_TOKEN, or log in again"),
        ({"endpoint": "https://lab"}, "endpoint 'https://lab' is not HOST:PORT; write for example lab.example.com:"),
        ({"tls": {"ca": "nonsense"}}, "tls.ca in {file} is not a certificate: it must be base64 of PEM"),
        ({"drivers": {"allow": 5}}, "drivers.allow in {file} must be a list of texts"),
    ],
)
def test_wrong_field(
    suite: pytest.Pytester, config: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    """A field that is missing or wrong is named, with its file."""
    file = config(**changes)
    assert one_error(suite, f"--jmp-client={file}").startswith(message.format(file=file))


@pytest.mark.parametrize("source", ["nosuch", "no/such.yaml"])
def test_unknown_client(suite: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """An alias or file that is not there names the clients there are."""
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(lab.config_dir))
    said = one_error(suite, f"--jmp-client={source}")
    assert "does not exist; the clients in" in said
    assert "are default, " in said
    assert said.endswith("(from --jmp-client)")


def test_half_an_environment(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that name a client but not where it is say which one is missing."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")
    monkeypatch.setenv("JMP_NAMESPACE", "lab")
    monkeypatch.setenv("JMP_NAME", "default")
    said = one_error(suite)
    assert said.startswith("JMP_NAMESPACE and JMP_NAME in the environment name a client, but JMP_ENDPOINT is not set; ")


def test_nothing_is_configured(suite: pytest.Pytester) -> None:
    """Without any of them the five ways to a device are listed."""
    suite.makeini("[pytest]")
    said = one_error(suite, lines=7)
    assert said.startswith("no source of devices is configured. Five ways:\n")
    for way in (
        "pytest --jmp-lab=FILE",
        "pytest --jmp-direct=HOST:PORT",
        "jmp shell ... -- pytest",
        "--jmp-client=ALIAS-OR-FILE",
        "jmp config client",
    ):
        assert f"\n  {way}" in said or f"\n  pytest {way}" in said
    assert all(len(line) <= 70 for line in said.splitlines()[:-1]), "--jmp-check indents it by ten"

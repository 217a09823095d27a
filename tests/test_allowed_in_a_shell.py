"""Which driver clients may be imported inside a shell: what the environment says, else what the client config says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_jumpstarter.leasing.in_shell import ShellExporter

CONFIG = """\
metadata: {namespace: lab, name: ci}
endpoint: lab:1
token: token-of-the-test
drivers: {allow: [jumpstarter_driver_power.*]}
"""


@pytest.mark.parametrize(
    ("variables", "allow", "source"),
    [
        ({}, ("jumpstarter_driver_power.*",), "drivers.allow of client config "),
        ({"JMP_DRIVERS_ALLOW": "mine.*,yours.*"}, ("mine.*", "yours.*"), "JMP_DRIVERS_ALLOW in the environment"),
        ({"JMP_DRIVERS_ALLOW": ""}, ("",), "JMP_DRIVERS_ALLOW in the environment"),
        ({"JMP_CLIENT_CONFIG_HOME": "/nonexistent"}, (), "JMP_DRIVERS_ALLOW in the environment"),
    ],
    ids=["client config", "environment", "nothing", "neither"],
)
def test_allowed_drivers(
    variables: dict[str, str],
    allow: tuple[str, ...],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shell of an older or of somebody's own making may lack the list: then it is that of the current client."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "ci.yaml").write_text(CONFIG)
    (tmp_path / "config.yaml").write_text("config: {current-client: ci}")
    environ = {"JMP_CLIENT_CONFIG_HOME": str(tmp_path), "JUMPSTARTER_HOST": "/socket"} | variables
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    policy = ShellExporter(environ).policy
    assert policy.allow == allow
    assert policy.source.startswith(source)
    assert not policy.unsafe
